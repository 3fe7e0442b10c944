\set ON_ERROR_STOP on -- want not-read
UPDATE patients SET name = ''; -- want data-without-role
