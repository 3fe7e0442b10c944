package lifecycle_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// roundtrip exports a tenant, erases it, imports it, and requires that all is as before.
func roundtrip(t *testing.T, d *testdb.Database, rows int) {
	t.Helper()
	l := tenants(t, d)
	l.BatchSize = 2
	acme, globex := checksum(t, d, testdb.Acme), checksum(t, d, testdb.Globex)
	m, file := export(t, l, testdb.Acme)
	require.EqualValues(t, rows, m.Rows())
	report, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.EqualValues(t, rows, report.Rows())
	require.Equal(t, checksum(t, d, "no one"), checksum(t, d, testdb.Acme))
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
	_, err = l.Import(t.Context(), "", file)
	require.NoError(t, err)
	require.Equal(t, acme, checksum(t, d, testdb.Acme))
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
}

// shape makes tables by hand, isolates them, and gives each tenant the same rows: %s is the tenant.
func shape(t *testing.T, tables []string, create, insert []string) *testdb.Database {
	t.Helper()
	d := testdb.New(t)
	d.AsOwner(t, create...)
	for _, name := range tables {
		d.AsOwner(t, isolated(name)...)
	}
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		for _, statement := range insert {
			d.AsSuperuser(t, fmt.Sprintf(statement, "'"+tenant+"'"))
		}
	}
	return d
}

func TestPartitionsAreReadOnce(t *testing.T) {
	roundtrip(t, shape(t, []string{"events", "events_2024", "events_rest"}, []string{
		"CREATE TABLE events (tenant_id text NOT NULL, id int, at date, PRIMARY KEY (tenant_id, id, at)) PARTITION BY RANGE (at)",
		"CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
		"CREATE TABLE events_rest PARTITION OF events DEFAULT",
	}, []string{"INSERT INTO events SELECT %s, i, date '2024-12-29' + i FROM generate_series(1, 7) i"}), 7)
}

func TestInheritingTablesAreReadOnce(t *testing.T) {
	d := shape(t, []string{"pets", "dogs"}, []string{
		"CREATE TABLE pets (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id))",
		"CREATE TABLE dogs (breed text) INHERITS (pets)",
	}, []string{"INSERT INTO pets VALUES (%s, 1)", "INSERT INTO dogs VALUES (%s, 2, 'pug')"})
	l := tenants(t, d)
	var counted lifecycle.Event
	l.OnEvent = func(_ context.Context, e lifecycle.Event) { counted = e }
	report, err := l.Count(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.EqualValues(t, 2, counted.Rows, "also in the event")
	require.EqualValues(t, 2, report.Rows(), "the dog is no pet of its own")
	_, file := export(t, l, testdb.Acme)
	_, err = l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	_, err = l.Import(t.Context(), "", file)
	require.NoError(t, err)
	differences, err := l.Diff(t.Context(), "", file)
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestTablesWithoutPrimaryKey(t *testing.T) {
	roundtrip(t, shape(t, []string{"logs"}, []string{"CREATE TABLE logs (tenant_id text NOT NULL, doc json, n int)"},
		[]string{`INSERT INTO logs SELECT %s, '{"a":1}', i %% 2 FROM generate_series(1, 5) i`}), 5)
}

func TestCirclesOfForeignKeys(t *testing.T) {
	for name, test := range map[string]struct {
		null, deferrable string
		want             error
	}{
		"nullable":   {},
		"deferrable": {null: "NOT NULL", deferrable: "DEFERRABLE"},
		"neither":    {null: "NOT NULL", want: lifecycle.ErrCycle},
	} {
		t.Run(name, func(t *testing.T) {
			const insert = "WITH a AS (INSERT INTO firsts SELECT %[1]s, i, i FROM generate_series(1, 5) i) INSERT INTO seconds SELECT %[1]s, i, i FROM generate_series(1, 5) i"
			d := shape(t, []string{"firsts", "seconds"}, []string{
				"CREATE TABLE firsts (tenant_id text NOT NULL, id int, second int " + test.null + ", PRIMARY KEY (tenant_id, id))",
				"CREATE TABLE seconds (tenant_id text NOT NULL, id int, first int NOT NULL, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, first) REFERENCES firsts)",
				"ALTER TABLE firsts ADD FOREIGN KEY (tenant_id, second) REFERENCES seconds " + test.deferrable,
			}, []string{insert})
			if test.want == nil {
				roundtrip(t, d, 10)
				return
			}
			l := tenants(t, d)
			_, file := export(t, l, testdb.Acme)
			_, err := l.Erase(t.Context(), testdb.Acme)
			require.NoError(t, err)
			_, err = l.Import(t.Context(), "", file)
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestRowsThatReferToTheirOwnTable(t *testing.T) {
	roundtrip(t, shape(t, []string{"nodes"}, []string{
		"CREATE TABLE nodes (tenant_id text NOT NULL, id int, parent int, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, parent) REFERENCES nodes ON DELETE RESTRICT)",
	}, []string{"INSERT INTO nodes SELECT %s, i, nullif((i + 1) / 2, i) FROM generate_series(1, 20) i"}), 20)
}

func TestImportForAnotherTenant(t *testing.T) {
	from, to := filled(t), fixture(t)
	to.AsSuperuser(t, "INSERT INTO plans (id, name) VALUES (1, 'free')")
	_, file := export(t, tenants(t, from), testdb.Acme)
	l := tenants(t, to)
	report, err := l.Import(t.Context(), "new", file)
	require.NoError(t, err)
	require.EqualValues(t, 53, report.Rows())
	differences, err := l.Diff(t.Context(), "new", file)
	require.NoError(t, err)
	require.Empty(t, differences)
	var org Org
	require.NoError(t, to.AdminDB.Take(&org).Error)
	require.Equal(t, "new", org.ID)

	db := to.Open(t, to.Config())
	person := Person{Name: "next"}
	require.NoError(t, db.WithContext(testdb.As("new")).Create(&person).Error, "the sequence is beyond the keys")
	require.EqualValues(t, 11, person.ID)
}

func TestEraseKeepsWhatIsSkipped(t *testing.T) {
	d := shape(t, []string{"customers", "invoices", "carts"}, []string{
		"CREATE TABLE customers (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id))",
		"CREATE TABLE invoices (tenant_id text NOT NULL, id int, customer int, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer) REFERENCES customers)",
		"CREATE TABLE carts (tenant_id text NOT NULL, id int, customer int, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, customer) REFERENCES customers)",
	}, []string{"INSERT INTO customers SELECT %s, i FROM generate_series(1, 3) i", "INSERT INTO invoices SELECT %s, i, 1 FROM generate_series(1, 4) i", "INSERT INTO carts VALUES (%s, 1, 2)"})
	l := tenants(t, d)
	l.Skip = map[string]string{"public.invoices": "by law"}
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.ErrorIs(t, err, lifecycle.ErrBeyond, "invoices refer to customers")

	d.AsSuperuser(t, "ALTER TABLE invoices DROP CONSTRAINT invoices_tenant_id_customer_fkey, ADD FOREIGN KEY (tenant_id, customer) REFERENCES customers ON DELETE CASCADE")
	_, err = l.Erase(t.Context(), testdb.Acme)
	require.ErrorIs(t, err, lifecycle.ErrBeyond, "invoices would go with the customers")
	require.ErrorContains(t, err, "keep public.customers as well")

	l.Skip["public.customers"] = "of the invoices"
	report, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Rows())
	require.ElementsMatch(t, []lifecycle.Left{{Object: "public.invoices", Reason: "by law", Rows: 4}, {Object: "public.customers", Reason: "of the invoices", Rows: 3}}, report.Left)
}

func TestEraseSaysWhatRemains(t *testing.T) {
	d := shape(t, []string{"notes"}, []string{
		"CREATE TABLE notes (tenant_id text NOT NULL, id int, PRIMARY KEY (tenant_id, id))",
		"CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"CREATE TRIGGER keep BEFORE DELETE ON notes FOR EACH ROW EXECUTE FUNCTION keep()",
	}, []string{"INSERT INTO notes SELECT %s, i FROM generate_series(1, 3) i"})
	report, err := tenants(t, d).Erase(t.Context(), testdb.Acme)
	require.ErrorIs(t, err, lifecycle.ErrRemains)
	require.ErrorContains(t, err, "public.notes (3)")
	require.Zero(t, report.Rows())
}

func TestImportRefusesTriggersThatChangeRows(t *testing.T) {
	d := shape(t, []string{"notes"}, []string{"CREATE TABLE notes (tenant_id text NOT NULL, id int, body text, PRIMARY KEY (tenant_id, id))"},
		[]string{"INSERT INTO notes VALUES (%s, 1, 'a')"})
	l := tenants(t, d)
	_, file := export(t, l, testdb.Acme)
	_, err := l.Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	d.AsOwner(t, "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.body := 'b'; RETURN NEW; END$$",
		"CREATE TRIGGER stamp BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION stamp()")
	_, err = l.Import(t.Context(), "", file)
	require.ErrorIs(t, err, lifecycle.ErrChanged)
	require.Equal(t, checksum(t, d, "no one"), checksum(t, d, testdb.Acme))
}

func TestEraseCountsRecordsOfChanges(t *testing.T) {
	d := testdb.New(t)
	isolation := d.Isolation()
	isolation.Audits = []rls.Audit{{Model: &Project{}}}
	d.Migrate(t, isolation, &Project{}, &Task{})
	db := d.Open(t, d.Config())
	for _, tenant := range []string{testdb.Acme, testdb.Globex} {
		require.NoError(t, db.WithContext(testdb.As(tenant)).Create([]*Project{{Name: "a"}, {Name: "b"}}).Error)
	}
	globex := checksum(t, d, testdb.Globex)
	report, err := tenants(t, d).Erase(t.Context(), testdb.Acme)
	require.NoError(t, err)
	require.EqualValues(t, 2, report.Rows())
	require.Len(t, report.Left, 1)
	require.Equal(t, "public.tenancy_audit", report.Left[0].Object)
	require.EqualValues(t, 4, report.Left[0].Rows, "two rows were made, and two deleted")
	require.Equal(t, globex, checksum(t, d, testdb.Globex))
}
