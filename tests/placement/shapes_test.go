package placement

import (
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// oddTables have what careless copies lose: partitions, generated columns, types with a length, and a circle of tables.
const oddTables = `CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE odds (
	id bigint GENERATED ALWAYS AS IDENTITY, tenant_id text NOT NULL, day date NOT NULL, feels mood, exact numeric(20, 5), fixed char(8), doc jsonb, plain json,
	list text[], span interval, float float8, at timestamp, twice numeric GENERATED ALWAYS AS (exact * 2) STORED, relation regclass, "odd ""name" text,
	PRIMARY KEY (tenant_id, day, id)) PARTITION BY RANGE (day);
CREATE TABLE odds_old PARTITION OF odds FOR VALUES FROM ('2000-01-01') TO ('2020-01-01');
CREATE TABLE odds_new PARTITION OF odds FOR VALUES FROM ('2020-01-01') TO ('2040-01-01');
CREATE TABLE hens (id uuid PRIMARY KEY, tenant_id text NOT NULL, egg_id uuid NOT NULL, UNIQUE (tenant_id, id));
CREATE TABLE eggs (id uuid PRIMARY KEY, tenant_id text NOT NULL, hen_id uuid, UNIQUE (tenant_id, id),
	FOREIGN KEY (tenant_id, hen_id) REFERENCES hens (tenant_id, id));
ALTER TABLE hens ADD FOREIGN KEY (tenant_id, egg_id) REFERENCES eggs (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;`

const oddRows = `SET LOCAL app.tenant_id = 'acme';
INSERT INTO odds (tenant_id, day, feels, exact, fixed, doc, plain, list, span, float, at, relation, "odd ""name")
	SELECT 'acme', date '2015-01-01' + i * 10, CASE WHEN i % 3 > 0 THEN 'glad'::mood END, i / 7.0, 'x' || i, '{"a": [1, 2.50]}', '{"b":  1}',
		ARRAY['a,"', NULL, '{}', i::text], '1 mon -2 days 03:04:05.6', i / 3.0, 'infinity', 'odds', E'tab\t' || i FROM generate_series(1, 700) i;
INSERT INTO hens SELECT gen_random_uuid(), 'acme', md5(i::text)::uuid FROM generate_series(1, 50) i;
INSERT INTO eggs SELECT md5(i::text)::uuid, 'acme', NULL FROM generate_series(1, 50) i;
UPDATE eggs SET hen_id = hens.id FROM hens WHERE hens.egg_id = eggs.id AND eggs.tenant_id = 'acme';`

// TestMoveOfOddTables compares the texts of all rows.
func TestMoveOfOddTables(t *testing.T) {
	moveOddTables(t, [2]*testdb.Database{testdb.New(t, &Org{}, &placement.Placement{}), testdb.New(t, &Org{}, &placement.Placement{})}, true)
}

func moveOddTables(t *testing.T, databases [2]*testdb.Database, odd bool) {
	t.Helper()
	m := placement.Mover{Servers: map[string]*sql.DB{}, Default: "first", TTL: time.Millisecond, Grace: 1, Actor: "a test", Logger: testdb.Quiet}
	tables := []string{"orgs"}
	for n, d := range databases {
		m.Servers[names[n]] = testdb.OpenSQL(t, d.Owner.DSN)
		if !odd {
			continue
		}
		d.AsOwner(t, oddTables)
		tables = []string{"orgs", "odds", "hens", "eggs"}
		for _, table := range tables[1:] {
			d.AsOwner(t, `ALTER TABLE `+table+` ENABLE ROW LEVEL SECURITY; ALTER TABLE `+table+` FORCE ROW LEVEL SECURITY;
				CREATE POLICY tenant_isolation ON `+table+` USING (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::text))
				WITH CHECK (tenant_id = (SELECT NULLIF(current_setting('app.tenant_id', true), '')::text))`)
		}
	}
	m.Catalog = m.Servers["first"]
	databases[0].AsSuperuser(t, `INSERT INTO orgs VALUES ('acme', 'Acme'), ('globex', 'Globex')`)
	if odd {
		databases[0].AsSuperuser(t, `BEGIN; `+oddRows+` COMMIT`)
		databases[1].AsSuperuser(t, `ALTER TABLE odds ALTER id RESTART 1000000000`)
	}
	texts := func(n int) (all []string) {
		pool := testdb.OpenSQL(t, databases[n].SuperuserDSN(t))
		for _, table := range tables {
			var text string
			require.NoError(t, pool.QueryRow(`SELECT coalesce(string_agg(r::text, E'\n' ORDER BY r::text), '') FROM `+table+` r
				WHERE coalesce(to_jsonb(r) ->> 'tenant_id', to_jsonb(r) ->> 'id') = 'acme'`).Scan(&text))
			all = append(all, text)
		}
		return all
	}
	before := texts(0)
	m.OnStep = func(s placement.Step) error {
		if s == placement.StepStop && odd {
			databases[0].AsSuperuser(t, `UPDATE odds SET exact = exact + 1, list = NULL WHERE id % 50 = 0`,
				`DELETE FROM odds WHERE id % 60 = 1`, `UPDATE odds SET day = day + 3000 WHERE id = 5`)
			before = texts(0)
		}
		return nil
	}
	report, err := m.Move(t.Context(), acme, "second")
	require.NoError(t, err)
	require.Positive(t, report.Rows)
	require.Equal(t, before, texts(1))
	_, err = m.EraseOld(t.Context(), acme)
	require.NoError(t, err)
	for _, text := range texts(0) {
		require.Empty(t, text)
	}
	require.Equal(t, before, texts(1))
}

// TestMoveOfSignedTenant: the policies of both servers demand a proof.
func TestMoveOfSignedTenant(t *testing.T) {
	moveOddTables(t, [2]*testdb.Database{testdb.NewSigned(t, &Org{}, &placement.Placement{}), testdb.NewSigned(t, &Org{}, &placement.Placement{})}, false)
}
