package rls_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// The tables of an application of many tenants: theirs, what they share, and what is read before the tenant is known.
type (
	customer struct {
		ID      string
		Name    string
		Members []client `gorm:"foreignKey:TenantID;constraint:OnDelete:CASCADE,OnUpdate:CASCADE"`
	}
	tariff struct {
		ID      int64
		Name    string
		Members []client `gorm:"constraint:OnDelete:SET NULL,OnUpdate:CASCADE"`
	}
	client struct {
		ID       int64
		TenantID string
		TariffID *int64
		Name     string
		KeyHash  string
	}
	access struct {
		ID       int64
		TenantID string
		MemberID int64
		Member   *client `gorm:"constraint:OnDelete:CASCADE"`
	}
	hit struct{ ID int64 }
)

func (customer) TenantOwnRows()        {}
func (access) TenantOwnRows()          {}
func (hit) DangerouslyTenantWritable() {}

var kinds = []any{&customer{}, &tariff{}, &client{}, &access{}, &hit{}}

// lookups makes a lookup role, and names what it may read.
func (d database) lookups(t *testing.T, i rls.Isolation) rls.Isolation {
	t.Helper()
	i.LookupRole = d.App.Role + "_lookup"
	d.AsSuperuser(t, "CREATE ROLE "+i.LookupRole)
	t.Cleanup(func() { d.AsSuperuser(t, "DROP OWNED BY "+i.LookupRole, "DROP ROLE "+i.LookupRole) })
	i.Lookups = []rls.Lookup{
		{Model: &client{}, Columns: []string{"tenant_id", "key_hash"}},
		{Model: &access{}, Columns: []string{"tenant_id", "member_id"}},
		{Model: &customer{}, Columns: []string{"id"}},
	}
	return i
}

// affects runs a statement of the application, in its transaction, that changes so many rows.
func (tx tx) affects(t *testing.T, rows int64, statement string) {
	t.Helper()
	result, err := tx.Exec(statement)
	require.NoError(t, err, statement)
	n, err := result.RowsAffected()
	require.NoError(t, err)
	require.Equal(t, rows, n, statement)
}

func TestMigrateKindsOfSharedTables(t *testing.T) {
	for _, lookup := range []bool{false, true} {
		t.Run(fmt.Sprintf("lookup role %t", lookup), func(t *testing.T) {
			d := newDatabase(t)
			i := d.Isolation()
			d.migrateWith(t, i, kinds...)
			seen := 2 // by all
			if lookup {
				i = d.lookups(t, i)
				changes := d.migrateWith(t, i, kinds...)
				require.Contains(t, changes, "public.clients: let "+i.LookupRole+" look up tenant_id, key_hash")
				seen = 1
			}
			require.Empty(t, d.migrateWith(t, i, kinds...), "a second run")

			require.NoError(t, d.AdminDB.Exec("INSERT INTO tariffs VALUES (1, 'free')").Error)
			for _, tenant := range []string{"acme", "globex"} {
				d.as(t, tenant, fmt.Sprintf("INSERT INTO customers VALUES ('%s')", tenant),
					"INSERT INTO clients (tariff_id, name) VALUES (1, 'x')",
					fmt.Sprintf("INSERT INTO accesses (tenant_id, member_id) SELECT '%s', id FROM clients", tenant))
			}
			for statement, code := range map[string]string{
				"DELETE FROM tariffs":                                              insufficientPrivilege,
				"UPDATE tariffs SET id = 3":                                        insufficientPrivilege,
				"INSERT INTO customers VALUES ('initech')":                         insufficientPrivilege,
				"UPDATE customers SET id = 'acme2' WHERE id = 'globex'":            insufficientPrivilege,
				"INSERT INTO accesses (tenant_id, member_id) VALUES ('acme', 1)":   insufficientPrivilege,
				"INSERT INTO accesses (tenant_id, member_id) VALUES ('globex', 1)": "23503",
			} {
				requireCode(t, d.fails(t, "globex", statement), code)
			}
			tx := d.begin(t, "globex")
			tx.affects(t, 1, "UPDATE customers SET name = 'x'")
			tx.affects(t, 0, "DELETE FROM customers WHERE id = 'acme'")
			tx.affects(t, 0, "DELETE FROM accesses WHERE tenant_id = 'acme'")
			tx.affects(t, 1, "INSERT INTO hits VALUES (DEFAULT)")
			tx.affects(t, 1, "DELETE FROM hits")
			require.NoError(t, tx.Commit())
			require.Len(t, d.sees(t, "globex", "SELECT id::text FROM accesses"), seen)
			require.Len(t, d.sees(t, "globex", "SELECT id FROM customers"), seen)
			require.Len(t, d.sees(t, "", "SELECT id FROM customers"), 2*(seen-1), "under no tenant")

			require.Error(t, d.AdminDB.Exec("DELETE FROM tariffs").Error, "rows of all tenants refer to it")
			d.as(t, "globex", "DELETE FROM customers")
			var clients []string
			require.NoError(t, d.AdminDB.Raw("SELECT tenant_id FROM clients").Scan(&clients).Error)
			require.Equal(t, []string{"acme"}, clients, "its own are gone with it")
		})
	}
}

// TestMigrateTakesActionsOfSharedParents replaces foreign keys that are older than isolation.
func TestMigrateTakesActionsOfSharedParents(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.OwnerDB.AutoMigrate(&tariff{}, &client{}))
	changes := d.migrate(t, &tariff{}, &client{})
	require.Contains(t, changes, "public.clients: add foreign key fk_tariffs_members "+
		"(ON DELETE SET NULL and ON UPDATE CASCADE, which would reach the rows of all tenants, becomes NO ACTION)")
	require.Empty(t, d.migrate(t, &tariff{}, &client{}), "a second run")
	d.AsOwner(t, "INSERT INTO tariffs VALUES (1, 'free')")
	d.as(t, "acme", "INSERT INTO clients (tariff_id) VALUES (1)")
	require.Error(t, d.AdminDB.Exec("UPDATE tariffs SET id = 2").Error)
}

// TestMigrateLookupRole: it reads what is named, of all tenants, and nothing else.
func TestMigrateLookupRole(t *testing.T) {
	d := newDatabase(t)
	i := d.lookups(t, d.Isolation())
	d.migrateWith(t, i, kinds...)
	for _, tenant := range []string{"acme", "globex"} {
		d.as(t, tenant, fmt.Sprintf("INSERT INTO customers VALUES ('%s')", tenant),
			fmt.Sprintf("INSERT INTO clients (name, key_hash) VALUES ('x', '%s')", tenant))
	}
	d.AsSuperuser(t, "GRANT "+i.LookupRole+" TO "+d.App.Role)
	as := func(query string) (found []string, err error) {
		tx := d.begin(t, "")
		defer func() { require.NoError(t, tx.Rollback()) }()
		require.NoError(t, tx.exec("SET LOCAL ROLE "+i.LookupRole))
		rows, err := tx.Query(query)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var s string
			require.NoError(t, rows.Scan(&s))
			found = append(found, s)
		}
		return found, rows.Err()
	}
	found, err := as("SELECT tenant_id FROM clients WHERE key_hash = 'globex'")
	require.NoError(t, err)
	require.Equal(t, []string{"globex"}, found)
	_, err = as("SELECT name FROM tariffs")
	require.NoError(t, err)
	for _, query := range []string{
		"SELECT name FROM clients", "SELECT * FROM accesses", "UPDATE clients SET tenant_id = 'x'", "DELETE FROM clients",
		"INSERT INTO hits VALUES (DEFAULT)", "DELETE FROM tariffs",
	} {
		_, err := as(query)
		requireCode(t, err, insufficientPrivilege)
	}
	i.Lookups = i.Lookups[1:]
	changes := d.migrateWith(t, i, kinds...)
	require.Contains(t, changes, "public.clients: drop outdated policy tenant_lookup")
	_, err = as("SELECT tenant_id FROM clients")
	requireCode(t, err, insufficientPrivilege)

	for says, lookups := range map[string][]rls.Lookup{
		"no column":       {{Model: &client{}, Columns: []string{"nothing"}}},
		"not among those": {{Model: &note{}, Columns: []string{"body"}}},
		"has no table":    {{Model: 7}},
	} {
		i.Lookups = lookups
		_, err := i.Migrate(t.Context(), d.OwnerDB, kinds...)
		require.ErrorContains(t, err, says)
	}
	_, err = rls.Isolation{Lookups: i.Lookups}.Migrate(t.Context(), d.OwnerDB, kinds...)
	require.ErrorContains(t, err, "need a LookupRole")
}

// TestMigrateRefusesEmbeddedMarkers: what is embedded in many models would open the tables of all.
func TestMigrateRefusesEmbeddedMarkers(t *testing.T) {
	type report struct {
		hit
		TenantID string
	}
	d := newDatabase(t)
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &report{})
	require.ErrorContains(t, err, "declare it on report itself")
}

// sheet has a primary key that is unique within a tenant, and slugs that are so in the database alone.
type sheet struct {
	TenantID string `gorm:"primaryKey"`
	ID       int64  `gorm:"primaryKey;autoIncrement:false"`
	Slug     string
}

func TestMigrateFollowsPrimaryKeyOfModel(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE sheets (id bigint PRIMARY KEY, tenant_id text, slug text)")
	require.Contains(t, d.migrate(t, &sheet{}), "public.sheets: make tenant_id a part of the primary key")
	require.Empty(t, d.migrate(t, &sheet{}), "a second run")
	d.as(t, "acme", "INSERT INTO sheets (id) VALUES (1)")
	d.as(t, "globex", "INSERT INTO sheets (id) VALUES (1)")
}

func TestMigrateWidensUniques(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE sheets (id bigint, tenant_id text, slug text, PRIMARY KEY (tenant_id, id))",
		"CREATE UNIQUE INDEX sheets_slug ON sheets (lower(slug) DESC) WHERE slug <> ''",
		"ALTER TABLE sheets ADD CONSTRAINT sheets_slug_id UNIQUE (slug, id) DEFERRABLE")
	i := d.Isolation()
	result, err := i.Migrate(t.Context(), d.OwnerDB, &sheet{})
	require.NoError(t, err)
	for _, change := range result.Changes {
		require.NotContains(t, change.SQL, "slug")
	}
	var left []string
	for _, finding := range result.Findings {
		require.Equal(t, check.UniqueWithoutTenant, finding.Code)
		left = append(left, finding.Object)
	}
	require.ElementsMatch(t, []string{"index public.sheets_slug", "constraint sheets_slug_id on public.sheets"}, left)
	i.WidenUniques = true
	require.Equal(t, []string{
		"public.sheets: drop sheets_slug, unique among tenants",
		"public.sheets: make sheets_slug unique within a tenant",
		"public.sheets: make sheets_slug_id unique within a tenant",
	}, d.migrateWith(t, i, &sheet{}))
	require.Empty(t, d.migrateWith(t, i, &sheet{}), "a second run")
	result, err = i.Migrate(t.Context(), d.OwnerDB, &sheet{})
	require.NoError(t, err)
	require.Empty(t, result.Findings)
	d.as(t, "acme", "INSERT INTO sheets (id, slug) VALUES (1, 'a')")
	d.as(t, "globex", "INSERT INTO sheets (id, slug) VALUES (1, 'A')")
	requireCode(t, d.fails(t, "globex", "INSERT INTO sheets (id, slug) VALUES (2, 'a')"), "23505")
}

func TestMigrateRefusesLooseCollation(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
		"CREATE TABLE sheets (id bigint PRIMARY KEY, tenant_id text COLLATE loose, slug text)")
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB, &sheet{})
	require.ErrorContains(t, err, `ALTER COLUMN "tenant_id" TYPE text COLLATE "C"`)
}
