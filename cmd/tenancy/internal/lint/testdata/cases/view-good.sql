CREATE VIEW names WITH (security_invoker = true) AS SELECT name FROM patients;
CREATE VIEW plan_names AS SELECT name FROM plans;
