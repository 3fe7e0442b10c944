CREATE POLICY support ON patients USING (tenant_id = current_setting('app.tenant_id') OR current_setting('app.support') = 'on'); -- want policy-shows-all
