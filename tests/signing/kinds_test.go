package signing_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/tenanttest"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Kinds of tables that are not simply a tenant's.
type (
	Org struct {
		ID   string `gorm:"primaryKey"`
		Name string
	}
	Membership struct {
		ID       int64
		TenantID string `gorm:"not null"`
		UserID   int64
	}
	Land struct {
		ID   int64
		Name string
	}
	Price struct { // with a natural key, and columns that PostgreSQL fills
		TenantID string `gorm:"primaryKey"`
		Code     string `gorm:"primaryKey"`
		Cents    int64
		Euros    int64  `gorm:"->;type:bigint GENERATED ALWAYS AS (cents / 100) STORED"`
		State    string `gorm:"default:new"`
	}
	Event struct { // partitioned by hand
		ID       int64  `gorm:"primaryKey"`
		TenantID string `gorm:"primaryKey"`
		Text     string
	}
)

func (Org) TenantOwnRows()        {}
func (Membership) TenantOwnRows() {}
func (Land) TenantShared()        {}

var kinds = []any{&Org{}, &Membership{}, &Land{}, &Page{}, &Mark{}, &Label{}, &Price{}, &Event{}}

func kindsIsolation(d *testdb.Database) rls.Isolation {
	isolation := d.Isolation()
	isolation.LookupRole = d.Lookup.Role
	isolation.Lookups = []rls.Lookup{{Model: &Membership{}, Columns: []string{"tenant_id", "user_id"}}}
	return isolation
}

// newKinds has rows of the tenants a and b in tables of all kinds.
func newKinds(t *testing.T) (*testdb.Database, *gorm.DB) {
	t.Helper()
	d := testdb.NewSigned(t)
	d.AsOwner(t, `CREATE TABLE events (id bigint, tenant_id text NOT NULL, text text, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id)`,
		`CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0)`,
		`CREATE TABLE events_1 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
	isolation := kindsIsolation(d)
	d.Migrate(t, isolation, kinds...)
	require.Empty(t, d.Migrate(t, isolation, kinds...))
	changes, err := isolation.Plan(t.Context(), d.OwnerDB, kinds...)
	require.NoError(t, err)
	require.Empty(t, changes.Steps)
	require.NoError(t, d.AdminDB.Create(&Land{ID: 1, Name: "Chile"}).Error)
	cfg := d.Config()
	cfg.LookupRole = d.Lookup.Role
	db := d.Open(t, cfg)
	for _, tenant := range []string{"a", "b"} {
		own := db.WithContext(testdb.As(tenant))
		require.NoError(t, own.Create(&Org{ID: tenant, Name: tenant}).Error)
		require.NoError(t, own.Create(&Membership{UserID: int64(tenant[0])}).Error)
		require.NoError(t, own.Create(&Page{Text: tenant, Marks: []Mark{{Text: tenant}}, Labels: []Label{{Text: tenant}}}).Error)
		price := Price{Code: "x", Cents: 250}
		require.NoError(t, own.Create(&price).Error)
		require.Equal(t, "new", price.State)
		require.NoError(t, own.Create(&Event{ID: 1, Text: tenant}).Error)
	}
	return d, db
}

// kindsTables have one row of each tenant, with the column that tells them apart.
var kindsTables = map[string]string{
	"orgs": "id", "memberships": "tenant_id", "pages": "tenant_id", "marks": "tenant_id", "labels": "tenant_id", "page_labels": "tenant_id",
	"prices": "tenant_id", "events": "tenant_id",
}

// TestSignedTablesOfAllKinds show the tenant its rows, and a stranger who names it, or who has its connection without a proof, none.
func TestSignedTablesOfAllKinds(t *testing.T) {
	t.Parallel()
	d, db := newKinds(t)
	evil := db.WithContext(testdb.As("evil"))
	plain := testdb.OpenPlain(t, d.App.DSN)
	for table, column := range kindsTables {
		for _, tenant := range []string{"a", "b"} {
			var got []string
			require.NoError(t, db.WithContext(testdb.As(tenant)).Raw(`SELECT `+column+` FROM `+table).Scan(&got).Error, table)
			require.Equal(t, []string{tenant}, got, table)
		}
		named := `(SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s`
		var count int64
		require.NoError(t, evil.Raw(`SELECT count(*) FROM `+named+`, `+table).Scan(&count).Error)
		require.Zero(t, count, table)
		require.NoError(t, plain.Raw(`SELECT count(*) FROM `+named+`, `+table).Scan(&count).Error)
		require.Zero(t, count, "%s without a proof", table)
		for _, client := range []*gorm.DB{evil, plain} {
			_ = client.Exec(`DELETE FROM ` + table + ` USING ` + named).Error
			_ = client.Exec(`UPDATE ` + table + ` SET ` + column + ` = 'evil' FROM ` + named).Error
		}
		require.NoError(t, d.AdminDB.Raw(`SELECT count(*) FROM `+table+` WHERE `+column+` IN ('a', 'b')`).Scan(&count).Error)
		require.EqualValues(t, 2, count, table)
	}
	require.Error(t, evil.Exec(`INSERT INTO memberships (tenant_id, user_id) SELECT set_config('app.tenant_id', 'b', true), 666`).Error)
	require.Error(t, evil.Exec(`INSERT INTO orgs (id) SELECT set_config('app.tenant_id', 'c', true)`).Error)
	require.Error(t, evil.Exec(`INSERT INTO lands (id, name) VALUES (2, 'x')`).Error)
	require.Error(t, evil.Exec(`INSERT INTO events_0 (id, tenant_id) VALUES (7, 'b')`).Error, "a partition by its name")

	var price Price
	require.NoError(t, db.WithContext(testdb.As("a")).First(&price, "code = ?", "x").Error)
	require.EqualValues(t, 2, price.Euros)
	price.Cents = 990
	require.NoError(t, db.WithContext(testdb.As("a")).Save(&price).Error)
	var other Price
	require.NoError(t, db.WithContext(testdb.As("b")).First(&other, "code = ?", "x").Error)
	require.EqualValues(t, 250, other.Cents)
}

// TestSignedLookups read what they are granted before the tenant is known, and a tenant who takes the role nothing.
func TestSignedLookups(t *testing.T) {
	t.Parallel()
	d, db := newKinds(t)
	var tenants []string
	lookup := db.WithContext(tenancy.WithoutTenant(context.Background()))
	require.NoError(t, lookup.Model(&Membership{}).Where("user_id = ?", 'b').Pluck("tenant_id", &tenants).Error)
	require.Equal(t, []string{"b"}, tenants)
	var land Land
	require.NoError(t, lookup.First(&land).Error)
	require.Error(t, lookup.Raw(`SELECT id FROM memberships`).Scan(&tenants).Error, "a column that is not named")
	require.Error(t, lookup.Raw(`SELECT text FROM pages`).Scan(&tenants).Error)

	require.ErrorIs(t, db.WithContext(testdb.As("a")).Transaction(func(tx *gorm.DB) error {
		_ = tx.Exec(`SELECT set_config('role', ?, true)`, d.Lookup.Role).Error
		var seen []string
		_ = tx.Raw(`SELECT tenant_id FROM memberships WHERE tenant_id = 'b'`).Scan(&seen).Error
		require.Empty(t, seen)
		return gorm.ErrInvalidTransaction // it is to be rolled back
	}), gorm.ErrInvalidTransaction)
}

// TestSignedViews: one that runs as who asks shows what the policies show.
func TestSignedViews(t *testing.T) {
	t.Parallel()
	d, db := newKinds(t)
	var version int
	require.NoError(t, d.OwnerDB.Raw("SELECT current_setting('server_version_num')::int").Scan(&version).Error)
	if version < 150000 {
		d.AsOwner(t, `CREATE VIEW texts AS SELECT * FROM pages`, `GRANT SELECT ON texts TO `+d.App.Role)
		require.ErrorIs(t, db.WithContext(testdb.As("a")).Table("texts").Find(&[]Page{}).Error, tenancy.ErrNotIsolated)
		return
	}
	d.AsOwner(t, `CREATE VIEW texts WITH (security_invoker = true) AS SELECT * FROM pages`, `GRANT SELECT ON texts TO `+d.App.Role)
	var found []Page
	require.NoError(t, db.WithContext(testdb.As("a")).Table("texts").Find(&found).Error)
	require.Len(t, found, 1)
	require.Equal(t, "a", found[0].TenantID)
	found = nil
	require.NoError(t, db.WithContext(testdb.As("evil")).Raw(`SELECT t.* FROM (SELECT set_config('app.tenant_id', 'b', true) OFFSET 0) s, texts t`).Scan(&found).Error)
	require.Empty(t, found)
}

// TestSignedWorkAcrossTenants: the admin client, a transaction for each tenant, migrations of data, and what tenanttest says.
func TestSignedWorkAcrossTenants(t *testing.T) {
	t.Parallel()
	d, db := newKinds(t)
	var pages []Page
	require.NoError(t, tenancy.Bypass(db, "a test").Find(&pages).Error)
	require.Len(t, pages, 2)
	require.NoError(t, tenancy.Bypass(db, "a test", tenancy.BypassReadOnly()).Find(&pages).Error)
	require.Len(t, pages, 2)
	require.Error(t, tenancy.Bypass(db, "a test", tenancy.BypassReadOnly()).Delete(&Page{}, "text = ?", "b").Error)

	var seen []string
	err := tenancy.ForEachTenant(context.Background(), db, []string{"a", "b"}, func(_ context.Context, tx *gorm.DB) error {
		var texts []string
		err := tx.Model(&Page{}).Pluck("text", &texts).Error
		seen = append(seen, texts...)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, seen)

	isolation := kindsIsolation(d)
	for client, opts := range map[*gorm.DB][]rls.DataOption{d.AdminDB: nil, d.OwnerDB: {rls.AsOwner("pages")}} {
		require.NoError(t, isolation.DataMigration(t.Context(), client, func(tx *gorm.DB) error {
			result := tx.Exec(`UPDATE pages SET text = text || '!'`)
			require.EqualValues(t, 2, result.RowsAffected)
			return result.Error
		}, opts...))
	}
	pages = nil
	require.NoError(t, db.WithContext(testdb.As("b")).Find(&pages).Error)
	require.Len(t, pages, 1)
	require.Equal(t, "b!!", pages[0].Text)
	tenanttest.Check(t, d.OwnerDB, isolation, kinds...)
}

// TestSignedStages: a rollout ends with the policies that demand a proof, and can be taken back.
func TestSignedStages(t *testing.T) {
	t.Parallel()
	d := testdb.NewSigned(t)
	d.AsOwner(t, `CREATE TABLE entries (id bigserial PRIMARY KEY, text text)`, `INSERT INTO entries (text) VALUES ('old')`)
	isolation := d.Isolation()
	isolation.KeepSchema = true
	isolation.Fills = []rls.Fill{{Model: &Entry{}, Tenant: `'a'`}}
	for _, stage := range []rls.Stage{rls.StageObserve, rls.StageShadow, rls.StageEnforce, rls.StageShadow, rls.StageEnforce} {
		isolation.Stage = stage
		d.Migrate(t, isolation, &Entry{})
	}
	db := d.Open(t, d.Config())
	var found []Entry
	require.NoError(t, db.WithContext(testdb.As("a")).Find(&found).Error)
	require.Len(t, found, 1)
	found = nil
	require.NoError(t, db.WithContext(testdb.As("evil")).Raw(`SELECT e.* FROM (SELECT set_config('app.tenant_id', 'a', true) OFFSET 0) s, entries e`).Scan(&found).Error)
	require.Empty(t, found)
}

// Entry is older than its tenant column.
type Entry struct {
	ID       int64
	TenantID string
	Text     string
}
