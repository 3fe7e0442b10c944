CREATE POLICY odd ON patients USING (tenant_id <> ''); -- want policy-shows-all
