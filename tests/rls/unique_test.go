package rls_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// member has every way to ask GORM for uniqueness.
type member struct {
	ID       int64
	TenantID string
	Email    string `gorm:"unique"`
	Login    string `gorm:"uniqueIndex"`
	First    string `gorm:"uniqueIndex:members_name,priority:2"`
	Last     string `gorm:"uniqueIndex:members_name,priority:1,sort:desc,collate:\"C\""`
	Card     string `gorm:"uniqueIndex:members_card,expression:lower(card),where:card <> ''"`
	Badge    string `gorm:"index:members_badge,unique,type:btree"`
	City     string `gorm:"index"`
}

var memberKeys = []string{
	"CREATE INDEX idx_members_city ON public.members USING btree (city)",
	"CREATE UNIQUE INDEX idx_members_login ON public.members USING btree (tenant_id, login)",
	"CREATE UNIQUE INDEX members_badge ON public.members USING btree (tenant_id, badge)",
	"CREATE UNIQUE INDEX members_card ON public.members USING btree (tenant_id, lower(card)) WHERE (card <> ''::text)",
	"CREATE UNIQUE INDEX members_name ON public.members USING btree (tenant_id, last COLLATE \"C\" DESC, first)",
	"CREATE UNIQUE INDEX members_pkey ON public.members USING btree (id)",
	"CREATE UNIQUE INDEX uni_members_email ON public.members USING btree (tenant_id, email)",
	"CREATE UNIQUE INDEX uni_members_tenant_id_id ON public.members USING btree (tenant_id, id)",
}

// indexes are the indexes of a table, as PostgreSQL writes them.
func (d database) indexes(t *testing.T, table string) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, "SELECT indexdef FROM pg_indexes WHERE tablename = $1 ORDER BY indexname", table)
}

func TestMigrateMakesUniqueWithinATenant(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, d database){
		"empty database": func(*testing.T, database) {},
		"tables that GORM made": func(t *testing.T, d database) {
			require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
			require.NotEqual(t, memberKeys, d.indexes(t, "members"))
		},
		"index made by hand": func(t *testing.T, d database) {
			require.NoError(t, d.OwnerDB.AutoMigrate(&member{}))
			d.AsOwner(t, "DROP INDEX members_name", "ALTER TABLE members ADD CONSTRAINT members_name UNIQUE (last, first)",
				"ALTER TABLE members DROP CONSTRAINT uni_members_email", "CREATE UNIQUE INDEX uni_members_email ON members (email)")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			before(t, d)
			d.migrate(t, &member{})
			require.Equal(t, memberKeys, d.indexes(t, "members"))
			snapshot := d.snapshot(t)
			require.Empty(t, d.migrate(t, &member{}), "a second run")
			require.Equal(t, snapshot, d.snapshot(t))
		})
	}
}

func TestMigrateHidesUniqueValuesOfOthers(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &member{})
	const insert = `INSERT INTO members (email, login, first, last, card, badge) VALUES ('e', 'l', 'f', 'l', 'c', 'b')`
	d.as(t, "acme", insert)
	d.as(t, "globex", insert)
	requireCode(t, d.fails(t, "globex", insert), "23505")
}

// An upsert must name the tenant column too, for ON CONFLICT must name all columns of a unique index.
func TestMigrateLetsUpsertsNameTheTenantColumn(t *testing.T) {
	d := newDatabase(t)
	d.migrate(t, &member{})
	db := testdb.OpenPlain(t, d.App.DSN)
	upsert := func(columns ...string) error {
		return db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Exec("SELECT set_config('app.tenant_id', 'acme', true)").Error)
			conflict := clause.OnConflict{DoNothing: true}
			for _, column := range columns {
				conflict.Columns = append(conflict.Columns, clause.Column{Name: column})
			}
			return tx.Clauses(conflict).Create(&member{TenantID: "acme", Email: "ann"}).Error
		})
	}
	require.NoError(t, upsert("tenant_id", "email"))
	require.NoError(t, upsert("tenant_id", "email"))
	require.NoError(t, upsert(), "any conflict")
	requireCode(t, upsert("email"), "42P10")
	require.Equal(t, []string{"ann"}, d.sees(t, "acme", "SELECT email FROM members"))
}

func TestMigrateKeepsUniqueOfSharedTables(t *testing.T) {
	type currency struct {
		ID   int64
		Code string `gorm:"unique"`
		Name string `gorm:"uniqueIndex"`
	}
	d := newDatabase(t)
	d.migrate(t, &currency{})
	require.Equal(t, []string{
		"CREATE UNIQUE INDEX currencies_pkey ON public.currencies USING btree (id)",
		"CREATE UNIQUE INDEX idx_currencies_name ON public.currencies USING btree (name)",
		"CREATE UNIQUE INDEX uni_currencies_code ON public.currencies USING btree (code)",
	}, d.indexes(t, "currencies"))
	require.Empty(t, d.migrate(t, &currency{}), "a second run")
}

// A table can have the tenant column though its model has not: GORM then makes what the plan replaces.
func TestMigrateUniqueOfATableThatAloneHasTheColumn(t *testing.T) {
	type badge struct {
		ID   int64
		Code string `gorm:"unique"`
		Name string `gorm:"uniqueIndex"`
	}
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE badges (id bigserial PRIMARY KEY, tenant_id text, code text, name text)")
	d.migrate(t, &badge{})
	require.Equal(t, []string{
		"CREATE UNIQUE INDEX badges_pkey ON public.badges USING btree (id)",
		"CREATE UNIQUE INDEX idx_badges_name ON public.badges USING btree (tenant_id, name)",
		"CREATE UNIQUE INDEX uni_badges_code ON public.badges USING btree (tenant_id, code)",
		"CREATE UNIQUE INDEX uni_badges_tenant_id_id ON public.badges USING btree (tenant_id, id)",
	}, d.indexes(t, "badges"))
	require.Empty(t, d.migrate(t, &badge{}), "a second run")
}

func TestMigrateWithdrawnUniqueness(t *testing.T) {
	type plain struct {
		ID       int64
		TenantID string
		Email    string
	}
	d := newDatabase(t)
	d.migrate(t, &member{})
	_, err := d.Isolation().Migrate(t.Context(), d.OwnerDB.Table("members"), &plain{})
	require.NoError(t, err, "GORM leaves indexes of removed tags alone, and so do we")
	require.Equal(t, memberKeys, d.indexes(t, "members"))
}
