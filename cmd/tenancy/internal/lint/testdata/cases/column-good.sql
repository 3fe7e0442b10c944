ALTER TABLE patients ALTER COLUMN tenant_id SET DEFAULT current_setting('app.tenant_id', true);
ALTER TABLE plans DROP COLUMN name;
ALTER TABLE patients DROP COLUMN email;
