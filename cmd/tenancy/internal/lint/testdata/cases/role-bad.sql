CREATE ROLE reporting LOGIN BYPASSRLS; -- want role-bypasses
ALTER ROLE shop_app SUPERUSER; -- want role-bypasses
