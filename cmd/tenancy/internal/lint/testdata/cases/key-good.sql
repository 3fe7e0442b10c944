CREATE UNIQUE INDEX patients_email ON patients (tenant_id, lower(email));
CREATE UNIQUE INDEX plans_name ON plans (name);
CREATE INDEX patients_name ON patients (name);
