ALTER TABLE patients ALTER COLUMN tenant_id DROP DEFAULT; -- want tenant-column-changed
ALTER TABLE patients ALTER tenant_id DROP NOT NULL; -- want tenant-column-changed
ALTER TABLE patients RENAME tenant_id TO org_id; -- want tenant-column-changed
ALTER TABLE billing.invoices DROP COLUMN tenant_id; -- want tenant-column-changed
