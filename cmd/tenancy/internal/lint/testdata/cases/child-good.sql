CREATE TABLE features (id bigint PRIMARY KEY, plan_id bigint NOT NULL REFERENCES plans (id) ON DELETE CASCADE);
