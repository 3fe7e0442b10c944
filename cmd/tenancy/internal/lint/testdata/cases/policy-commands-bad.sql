CREATE TABLE rooms (tenant_id text NOT NULL);
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON rooms FOR SELECT USING (tenant_id = current_setting('app.tenant_id')); -- want policy-some-commands
