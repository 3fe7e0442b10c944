BEGIN;
SET LOCAL ROLE shop_admin;
UPDATE patients SET email = lower(email);
COMMIT;
