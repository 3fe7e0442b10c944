ALTER ROLE shop_app SET app.tenant_id = 'acme'; -- want setting-for-role
ALTER DATABASE shop SET row_security = off; -- want setting-for-role
