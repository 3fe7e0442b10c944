SET ROLE shop_admin;
RESET ROLE;
DELETE FROM patients WHERE email IS NULL; -- want data-without-role
