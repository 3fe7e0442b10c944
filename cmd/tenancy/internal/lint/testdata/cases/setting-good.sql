ALTER ROLE shop_app SET statement_timeout = '5s';
ALTER ROLE shop_app RESET app.tenant_id;
