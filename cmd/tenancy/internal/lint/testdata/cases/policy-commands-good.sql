CREATE TABLE rooms (tenant_id text NOT NULL);
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY s ON rooms FOR SELECT USING (tenant_id = current_setting('app.tenant_id'));
CREATE POLICY i ON rooms FOR INSERT WITH CHECK (tenant_id = current_setting('app.tenant_id'));
CREATE POLICY u ON rooms FOR UPDATE USING (tenant_id = current_setting('app.tenant_id'));
CREATE POLICY d ON rooms FOR DELETE USING (tenant_id = current_setting('app.tenant_id'));
