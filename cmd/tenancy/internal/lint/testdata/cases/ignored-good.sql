SELECT 1;

-- Empty in production.
-- tenancy:ignore data-without-role the table is empty, see the rollout
UPDATE patients SET name = '';
DELETE FROM patients; -- tenancy:ignore data-without-role the table is empty
