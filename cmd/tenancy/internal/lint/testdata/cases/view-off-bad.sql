CREATE VIEW names WITH (security_invoker = off) AS SELECT name FROM patients; -- want view-runs-as-owner
