CREATE TABLE rooms (tenant_id text NOT NULL); -- want table-not-isolated
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY a ON rooms TO shop_admin USING (true);
