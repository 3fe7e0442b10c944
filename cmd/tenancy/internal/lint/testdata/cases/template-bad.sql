SELECT 1;
UPDATE {{ .Table }} SET name = ''; -- want not-read
UPDATE patients SET name = ''; -- want data-without-role
