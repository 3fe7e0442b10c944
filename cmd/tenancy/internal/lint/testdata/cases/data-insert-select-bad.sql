-- The tenant's rows feed a shared table.
INSERT INTO plans (id, name)
SELECT id, name FROM patients; -- want -1 data-without-role
