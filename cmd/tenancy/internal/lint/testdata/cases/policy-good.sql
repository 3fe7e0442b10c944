CREATE POLICY own ON patients FOR SELECT USING (email = current_setting('app.email') AND tenant_id IN (current_setting('app.tenant_id')));
CREATE POLICY open_hours ON patients AS RESTRICTIVE USING (extract(hour FROM now()) > 6);
