DROP POLICY tenancy ON patients;
CREATE POLICY tenancy ON patients USING (tenant_id = current_setting('app.tenant_id', true));
