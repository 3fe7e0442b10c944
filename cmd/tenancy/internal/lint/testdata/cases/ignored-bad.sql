-- tenancy:ignore data-without-role
UPDATE patients SET name = ''; -- want data-without-role
-- tenancy:ignore view-runs-as-owner the other code
UPDATE patients SET name = ''; -- want data-without-role
UPDATE patients SET name = ''; -- want data-without-role
