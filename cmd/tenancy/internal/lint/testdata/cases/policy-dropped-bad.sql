DROP POLICY tenancy_admin ON patients;
DROP POLICY tenancy ON patients; -- want isolation-switched-off
