CREATE VIEW names WITH (security_invoker) AS SELECT name FROM patients;
ALTER VIEW names SET (security_invoker = false); -- want view-runs-as-owner
