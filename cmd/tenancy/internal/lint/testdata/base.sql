-- What each case begins with: a shared table, two tenant tables, and a schema of its own.
CREATE TABLE tenants (id text PRIMARY KEY, name text NOT NULL);
CREATE TABLE plans (id bigint PRIMARY KEY, name text NOT NULL);

CREATE TABLE patients (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id') REFERENCES tenants (id) ON DELETE CASCADE,
	name text NOT NULL,
	email text,
	created_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (tenant_id, id)
);
ALTER TABLE patients ENABLE ROW LEVEL SECURITY;
ALTER TABLE patients FORCE ROW LEVEL SECURITY;
CREATE POLICY tenancy ON patients USING (tenant_id = (SELECT current_setting('app.tenant_id', true)));
CREATE POLICY tenancy_admin ON patients TO shop_admin USING (true) WITH CHECK (true);

CREATE SCHEMA billing;
CREATE TABLE billing.invoices (
	id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	tenant_id text NOT NULL DEFAULT current_setting('app.tenant_id'),
	patient_id bigint NOT NULL,
	total numeric(12, 2) NOT NULL,
	FOREIGN KEY (tenant_id, patient_id) REFERENCES patients (tenant_id, id) ON DELETE CASCADE
);
ALTER TABLE billing.invoices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY tenancy ON billing.invoices USING (tenant_id = current_setting('app.tenant_id', true));
CREATE POLICY tenancy_admin ON billing.invoices TO shop_admin USING (true);
