CREATE TABLE rooms (id bigint PRIMARY KEY, name text);
INSERT INTO rooms SELECT g, 'room ' || g FROM generate_series(1, 9) g;
ALTER TABLE rooms ADD COLUMN tenant_id text;
UPDATE rooms SET tenant_id = 'acme';
ALTER TABLE rooms ALTER COLUMN tenant_id SET NOT NULL;
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenancy ON rooms USING (tenant_id = current_setting('app.tenant_id', true));
