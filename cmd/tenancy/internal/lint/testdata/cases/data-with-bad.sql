WITH gone AS (DELETE FROM patients WHERE email IS NULL RETURNING id) SELECT count(*) FROM gone; -- want data-without-role
