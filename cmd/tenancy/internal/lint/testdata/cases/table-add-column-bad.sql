CREATE TABLE rooms (id bigint PRIMARY KEY);
ALTER TABLE rooms
	ADD COLUMN floor int,
	ADD COLUMN tenant_id text; -- want -2 table-not-isolated
