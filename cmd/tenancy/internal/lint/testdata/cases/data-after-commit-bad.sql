BEGIN;
SET LOCAL ROLE shop_admin;
UPDATE patients SET email = lower(email);
COMMIT;
UPDATE patients SET name = trim(name); -- want data-without-role
