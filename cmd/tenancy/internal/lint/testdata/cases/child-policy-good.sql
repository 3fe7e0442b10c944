CREATE TABLE visits (patient_id bigint NOT NULL REFERENCES patients (id));
ALTER TABLE visits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON visits USING (EXISTS (SELECT FROM patients WHERE patients.id = patient_id));
