ALTER POLICY tenancy ON patients USING (tenant_id = tenant_id); -- want policy-shows-all
