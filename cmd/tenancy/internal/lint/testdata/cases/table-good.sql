CREATE TABLE rooms (id bigint PRIMARY KEY, tenant_id text NOT NULL);
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenancy ON rooms USING (tenant_id = current_setting('app.tenant_id', true));
