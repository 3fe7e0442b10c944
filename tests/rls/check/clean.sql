-- A database with everything that can be right about isolation. Run as the owner; {app} and {admin} are roles.

CREATE FUNCTION isolate(tab regclass, type text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	current text := format('NULLIF(current_setting(''app.tenant_id'', true), '''')::%s', type);
	condition text := format('tenant_id = (SELECT %s)', current);
BEGIN
	EXECUTE format('ALTER TABLE %s ALTER COLUMN tenant_id SET NOT NULL, ALTER COLUMN tenant_id SET DEFAULT %s', tab, current);
	EXECUTE format('CREATE POLICY tenant_isolation ON %s USING (%s) WITH CHECK (%2$s)', tab, condition);
	EXECUTE format('CREATE POLICY tenant_admin ON %s TO {admin} USING (true) WITH CHECK (true)', tab);
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tab);
	EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tab);
	EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO {app}, {admin}', tab);
END $$;

-- Plain tables, with keys of all kinds.
CREATE TABLE notes (id bigint PRIMARY KEY, tenant_id text, body text, UNIQUE (tenant_id, id));
CREATE TABLE topics (id bigint PRIMARY KEY, tenant_id text, name text, UNIQUE (id, tenant_id),
	EXCLUDE USING btree (tenant_id WITH =, name WITH =));
CREATE UNIQUE INDEX ON topics (tenant_id, lower(name)) WHERE name <> '';
CREATE TABLE logs (id bigint PRIMARY KEY, tenant_id text, body text);
CREATE INDEX logs_tenant_id ON logs (tenant_id);

-- Relations: to one, beside the foreign key that GORM makes; to itself; and to many by a join table.
CREATE TABLE comments (id bigint PRIMARY KEY, tenant_id text, note_id bigint, parent_id bigint, body text, UNIQUE (tenant_id, id),
	CONSTRAINT fk_notes_comments FOREIGN KEY (note_id) REFERENCES notes (id),
	CONSTRAINT comments_note FOREIGN KEY (tenant_id, note_id) REFERENCES notes (tenant_id, id) ON DELETE CASCADE,
	CONSTRAINT comments_parent FOREIGN KEY (parent_id, tenant_id) REFERENCES comments (id, tenant_id) ON DELETE RESTRICT);
CREATE TABLE note_topics (tenant_id text, note_id bigint, topic_id bigint, PRIMARY KEY (tenant_id, note_id, topic_id),
	FOREIGN KEY (tenant_id, note_id) REFERENCES notes (tenant_id, id) ON DELETE CASCADE ON UPDATE CASCADE,
	FOREIGN KEY (tenant_id, topic_id) REFERENCES topics (tenant_id, id) ON DELETE CASCADE);

-- Partitions: two that only the parent leads to, one that may be named; and a child by inheritance.
CREATE TABLE events (id bigint, tenant_id text, year int, body text) PARTITION BY LIST (year);
CREATE INDEX ON events (tenant_id);
CREATE UNIQUE INDEX ON events (tenant_id, year, id);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES IN (2024);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES IN (2025) PARTITION BY LIST (id);
CREATE TABLE events_2025_1 PARTITION OF events_2025 FOR VALUES IN (1);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES IN (2026);
CREATE TABLE old_logs () INHERITS (logs);
CREATE INDEX ON old_logs (tenant_id);

SELECT isolate(tab::regclass, 'text')
FROM unnest('{notes,topics,logs,comments,note_topics,events,events_2026}'::text[]) tab;

-- Every type of tenant column, each in a schema of its own, and names that need quotes.
DO $$
DECLARE type text;
BEGIN
	FOREACH type IN ARRAY '{text,character varying,uuid,smallint,integer,bigint}'::text[] LOOP
		EXECUTE format('CREATE SCHEMA %I', 'of ' || type);
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO {app}, {admin}', 'of ' || type);
		EXECUTE format('CREATE TABLE %I."Odd ""rows" (id bigint PRIMARY KEY, tenant_id %s, body text)', 'of ' || type, type);
		EXECUTE format('CREATE INDEX ON %I."Odd ""rows" (tenant_id, id)', 'of ' || type);
		PERFORM isolate(format('%I."Odd ""rows"', 'of ' || type)::regclass, type);
	END LOOP;
END $$;

-- Shared tables: without the column, and with it. What other tables point at may be shared.
CREATE TABLE countries (name text PRIMARY KEY, code text UNIQUE);
CREATE TABLE memberships (id bigint PRIMARY KEY, tenant_id text, login text UNIQUE, country text REFERENCES countries (name));
GRANT SELECT ON countries, memberships TO {app};
GRANT SELECT, INSERT, UPDATE, DELETE ON countries, memberships TO {admin};
INSERT INTO countries VALUES ('Norway', 'no');

-- A policy that narrows, and one of another role.
CREATE POLICY not_empty ON topics AS RESTRICTIVE USING (name <> '' OR random() > 2);
CREATE POLICY upkeep ON topics TO {owner} USING (true);

-- Views: by the caller's rights, and a copy that only the admin role may read.
CREATE VIEW note_bodies{security_invoker} AS SELECT id, body FROM notes;
CREATE VIEW short_notes{security_invoker} AS SELECT * FROM note_bodies WHERE length(body) < 100;
CREATE VIEW country_names AS SELECT name FROM countries;
GRANT SELECT ON note_bodies, short_notes, country_names TO {app};
CREATE MATERIALIZED VIEW note_counts AS SELECT tenant_id, count(*) FROM notes GROUP BY tenant_id;
GRANT SELECT ON note_counts TO {admin};

-- Functions: by the caller's rights; by the owner's, with names that cannot be replaced and no tenant table; and not for
-- the application.
CREATE FUNCTION count_notes() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM notes';
CREATE FUNCTION count_countries() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
	AS 'SELECT count(*) FROM countries';
CREATE FUNCTION count_all() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM notes';
REVOKE EXECUTE ON FUNCTION count_all() FROM PUBLIC;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION stamp();

-- What is shared may be published, and tomorrow's tables may be read and written.
CREATE PUBLICATION reference FOR TABLE countries;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app};

-- A schema in which the application may create, allowed for a reason.
CREATE SCHEMA scratch;
GRANT USAGE, CREATE ON SCHEMA scratch TO {app};

DROP FUNCTION isolate;
