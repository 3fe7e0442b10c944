package main

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// TestClinicsSeeTheirOwnRows: what is looked up before a request has its clinic is not shown to clinics.
func TestClinicsSeeTheirOwnRows(t *testing.T) {
	s := newDatabase(t)
	third := s.db.WithContext(tenancy.WithTenant(t.Context(), 3))
	var clinics []Clinic
	require.NoError(t, third.Find(&clinics).Error)
	require.Equal(t, demoClinics[2:3], clinics)
	var memberships []Membership
	require.NoError(t, third.Find(&memberships).Error)
	require.Len(t, memberships, 5, "three of its own, and two from other clinics")
	for _, m := range memberships {
		require.EqualValues(t, 3, m.TenantID)
	}
	var raw int64
	require.NoError(t, third.Raw("SELECT count(*) FROM memberships").Scan(&raw).Error)
	require.EqualValues(t, 5, raw, "not in SQL of its own either")

	lookup := s.db.WithContext(tenancy.WithoutTenant(t.Context()))
	require.NoError(t, lookup.Order("id").Find(&clinics).Error)
	require.Equal(t, demoClinics, clinics)
	require.NoError(t, lookup.Find(&memberships).Error)
	require.Len(t, memberships, 27)
}

// TestRolesAreRefusedTheRest: the lookup role reads no patient and changes nothing, and a clinic cannot make members.
func TestRolesAreRefusedTheRest(t *testing.T) {
	s := newDatabase(t)
	lookup := s.db.WithContext(tenancy.WithoutTenant(t.Context()))
	third := s.db.WithContext(tenancy.WithTenant(t.Context(), 3))
	for name, err := range map[string]error{
		"names":       lookup.Select("name").Find(&[]Patient{}).Error,
		"count":       lookup.Model(&Patient{}).Count(new(int64)).Error,
		"appointment": lookup.First(&Appointment{}).Error,
		"write":       lookup.Exec("UPDATE users SET admin = true").Error,
		"join":        lookup.Exec("INSERT INTO memberships VALUES (1, 1)").Error,
		"own member":  third.Create(&Membership{UserID: 1, TenantID: 3}).Error,
		"rename":      third.Model(&Clinic{}).Where("id = 3").Update("name", "x").Error,
		"audit":       third.Create(&AuditEntry{}).Error,
		"admin":       third.Model(&User{}).Where("id = 1").Update("admin", true).Error,
	} {
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, name)
		require.Equal(t, "42501", refused.Code, name)
	}
}

// TestMigrateAgain changes nothing, because what was revoked stays revoked, and finds nothing.
func TestMigrateAgain(t *testing.T) {
	s := newDatabase(t)
	result, err := isolation(s.database).Migrate(t.Context(), s.owner, models()...)
	require.NoError(t, err)
	require.Empty(t, result.Changes)
	require.Empty(t, result.Findings)
}
