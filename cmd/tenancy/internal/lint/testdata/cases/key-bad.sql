CREATE UNIQUE INDEX patients_email ON patients (lower(email)); -- want key-without-tenant
ALTER TABLE patients ADD CONSTRAINT e UNIQUE (email); -- want key-without-tenant
