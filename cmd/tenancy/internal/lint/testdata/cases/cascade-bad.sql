ALTER TABLE patients ADD COLUMN plan_id bigint REFERENCES plans (id) ON DELETE SET NULL; -- want cascade-from-shared
