COPY patients TO '/backup/patients.csv'; -- want data-without-role
