GRANT SELECT, INSERT, UPDATE, DELETE ON patients TO shop_app;
GRANT ALL ON patients TO shop_admin;
GRANT ALL ON plans TO shop_app;
REVOKE ALL ON patients FROM PUBLIC;
