SET ROLE shop_app;
DELETE FROM patients WHERE email IS NULL; -- want data-without-role
