ALTER TABLE patients ADD COLUMN plan_id bigint REFERENCES plans (id);
