CREATE VIEW names AS SELECT name FROM patients; -- want view-runs-as-owner
