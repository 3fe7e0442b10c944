CREATE TABLE rooms (id bigint PRIMARY KEY, tenant_id text NOT NULL); -- want table-not-isolated
