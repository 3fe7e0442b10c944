CREATE TABLE visits ( -- want child-table-not-isolated
	id bigint PRIMARY KEY,
	patient_id bigint NOT NULL REFERENCES patients (id)
);
