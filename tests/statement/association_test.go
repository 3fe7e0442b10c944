package statement_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type Member struct {
	ID       int64
	TenantID string
	Roles    []Role `gorm:"many2many:member_roles"`
}

type Role struct {
	ID       int64
	TenantID string
	Name     string
}

// MemberRole is a join table of its own, with soft delete. GORM builds that as a text, which it puts into another statement.
type MemberRole struct {
	MemberID  int64 `gorm:"primaryKey"`
	RoleID    int64 `gorm:"primaryKey"`
	TenantID  string
	DeletedAt gorm.DeletedAt
}

// TestAssociationThroughJoinTable: a join table with the tenant column and soft delete works, and has the condition.
func TestAssociationThroughJoinTable(t *testing.T) {
	d := testdb.New(t)
	log := &sqlLog{Interface: logger.Discard}
	require.NoError(t, d.OwnerDB.SetupJoinTable(&Member{}, "Roles", &MemberRole{}))
	d.Migrate(t, d.Isolation(), &Member{}, &Role{}, &MemberRole{})
	db := d.Open(t, tenancy.Config{}, usual(log))
	require.NoError(t, db.SetupJoinTable(&Member{}, "Roles", &MemberRole{}))
	for range 2 { // the first time PostgreSQL is asked about the join table
		for _, tenant := range []string{acme, globex} {
			db := db.WithContext(as(tenant))
			member := Member{Roles: []Role{{Name: "reader"}, {Name: "writer"}, {Name: "gone"}}}
			require.NoError(t, db.Create(&member).Error)
			require.NoError(t, db.Model(&member).Association("Roles").Delete(&member.Roles[2]))
			roles := db.Model(&member).Association("Roles")
			require.EqualValues(t, 2, roles.Count(), roles.Error)
			var found []Role
			require.NoError(t, db.Model(&member).Order("roles.id").Association("Roles").Find(&found))
			require.Equal(t, member.Roles, found)
			require.Contains(t, log.sent[len(log.sent)-1], `"member_roles"."tenant_id" = '`+tenant+`' WHERE "roles"."tenant_id" = '`+tenant+`' AND "member_roles"."deleted_at" IS NULL`)
		}
	}
}

// TestJoinTableMustBeIsolated: the join table of an association, and other tables in clause.From, are asked about as well.
func TestJoinTableMustBeIsolated(t *testing.T) {
	s := newGuarded(t, "join table", tenancy.Config{})
	s.reset(t)
	_, err := s.super.Exec(t.Context(), "ALTER TABLE author_tags DISABLE ROW LEVEL SECURITY")
	require.NoError(t, err)
	tags := s.db.Model(&Author{ID: 1}).Association("Tags")
	require.Zero(t, tags.Count())
	require.ErrorIs(t, tags.Error, tenancy.ErrNotIsolated)
	_, err = s.super.Exec(t.Context(), "ALTER TABLE author_tags ENABLE ROW LEVEL SECURITY")
	require.NoError(t, err)
	tags = s.db.Model(&Author{ID: 1}).Association("Tags")
	require.EqualValues(t, 2, tags.Count())
	require.NoError(t, tags.Error)
}
