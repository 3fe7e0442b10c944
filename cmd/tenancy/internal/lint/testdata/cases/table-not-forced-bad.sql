CREATE TABLE rooms (id bigint PRIMARY KEY, tenant_id text NOT NULL); -- want table-not-isolated
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenancy ON rooms USING (tenant_id = current_setting('app.tenant_id', true));
