ALTER TABLE patients DISABLE TRIGGER USER;
ALTER TABLE patients ENABLE TRIGGER USER;
SET LOCAL session_replication_role = replica;
