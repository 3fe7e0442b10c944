SET ROLE shop_admin;
SET ROLE NONE;
DELETE FROM patients WHERE email IS NULL; -- want data-without-role
