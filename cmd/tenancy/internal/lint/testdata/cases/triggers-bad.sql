ALTER TABLE patients DISABLE TRIGGER ALL; -- want triggers-switched-off
SET session_replication_role = replica; -- want triggers-switched-off
