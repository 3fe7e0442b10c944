package rls_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
)

// The models have names that need quotes everywhere, and relations that need all of them.
type (
	weird struct {
		Key    int64     `gorm:"column:weird'key;primaryKey"`
		Tenant string    `gorm:"column:Mandant-Nr"`
		Order  string    `gorm:"column:order;unique"`
		Läng   string    `gorm:"column:längeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee;uniqueIndex"`
		Parent *weird    `gorm:"foreignKey:Up;constraint:OnDelete:SET NULL"`
		Up     *int64    `gorm:"column:we\"ird up"`
		Locals []local   `gorm:"foreignKey:WeirdKey"`
		Tags   []grouped `gorm:"many2many:weird tags"`
	}
	local struct {
		Embedded
		WeirdKey int64 `gorm:"column:user"`
	}
	Embedded struct {
		ID    int64 `gorm:"column:table"`
		Place struct {
			Tenant string `gorm:"column:Mandant-Nr"`
			Street string `gorm:"column:street;uniqueIndex:local street"`
		} `gorm:"embedded;embeddedPrefix:"`
	}
	grouped struct {
		ID     int64  `gorm:"column:$$"`
		Tenant string `gorm:"column:Mandant-Nr"`
	}
)

func (weird) TableName() string   { return `weird " name` }
func (local) TableName() string   { return "select" }
func (grouped) TableName() string { return strings.Repeat("größe", 9) }

func TestMigrateOddNamesInKeys(t *testing.T) {
	d := newDatabase(t)
	i := d.Isolation()
	i.Column = "Mandant-Nr"
	d.migrateWith(t, i, &weird{}, &local{})
	require.Empty(t, d.migrateWith(t, i, &weird{}, &local{}), "a second run")
	require.Equal(t, d.possible(t, []string{
		`"select" fk_weird " name_locals FOREIGN KEY ("Mandant-Nr", "user") REFERENCES "weird "" name"("Mandant-Nr", "weird'key")`,
		`"weird "" name" fk_weird " name_parent FOREIGN KEY ("Mandant-Nr", "we""ird up") REFERENCES "weird "" name"("Mandant-Nr", "weird'key") ON DELETE SET NULL ("we""ird up")`,
		`"weird tags" fk_weird tags_grouped FOREIGN KEY ("Mandant-Nr", grouped_id) REFERENCES "größegrößegrößegrößegrößegrößegrößegrößegröße"("Mandant-Nr", "$$")`,
		`"weird tags" fk_weird tags_weird FOREIGN KEY ("Mandant-Nr", weird_key) REFERENCES "weird "" name"("Mandant-Nr", "weird'key")`,
	}), d.foreignKeys(t))

	scripted := newDatabase(t)
	up, down, err := i.SQL(offline(t, &gorm.Config{}), &weird{}, &local{})
	require.NoError(t, err)
	scripted.psql(t, up)
	require.Equal(t, d.dump(t), scripted.dump(t))
	scripted.psql(t, up)
	require.Empty(t, scripted.migrateWith(t, i, &weird{}, &local{}), "Migrate after the script")
	scripted.psql(t, down)
}

// Names that GORM cannot shorten to what PostgreSQL takes.
func TestMigrateLongConstraintNames(t *testing.T) {
	name := strings.Repeat("ö", 40)
	type child struct {
		ID       int64
		TenantID string
		NoteID   int64
		Note     *note  `gorm:"constraint:fk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,OnDelete:CASCADE"`
		Code     string `gorm:"uniqueIndex:idx_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"`
	}
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE children (id bigserial PRIMARY KEY, "+pgx.Identifier{name}.Sanitize()+" int)")
	d.migrate(t, &child{})
	require.Empty(t, d.migrate(t, &child{}), "a second run")
	require.Len(t, d.foreignKeys(t), 1)
}
