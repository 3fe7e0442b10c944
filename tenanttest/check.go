// Package tenanttest proves in an application's own tests that its database keeps tenants apart.
//
//	func TestIsolation(t *testing.T) {
//		tenanttest.Check(t, db, rls.Isolation{AppRole: "app", AdminRole: "app_admin"}, &Patient{}, &Invoice{})
//	}
package tenanttest

import (
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
)

// Check fails the test for each hole that package check finds in the database behind db, with the SQL that fixes it. Name all
// models of the application, those of shared tables too, as for Migrate: a table that is missing, or lacks the tenant column of
// its model, is found only if its model is known. So Check fails without models. It fails too if the database cannot be
// checked, or no table has the tenant column: then nothing would be proved. What the role of db may not see is logged. Nothing
// is written.
//
// Set AppRole: without it the role of db is taken for the application's, which in tests often is the owner of the tables or a
// superuser, to whom no policy applies.
func Check(t testing.TB, db *gorm.DB, i rls.Isolation, models ...any) {
	t.Helper()
	if len(models) == 0 {
		t.Error("no models are given: name all models of the application, or use CheckWith for a database without models")
		return
	}
	for _, m := range models {
		if _, mistaken := m.(check.Option); mistaken {
			t.Error("an option is given as a model: options are for CheckWith, which takes models by check.Models")
			return
		}
	}
	CheckWith(t, db, i, check.Models(models...))
}

// CheckWith does what Check does, with options: check.Allow for a finding that is meant, check.Schemas for a part of a database,
// check.Models for the models. Without models it looks at the tables that have the tenant column.
//
//	tenanttest.CheckWith(t, db, isolation, check.Models(&Patient{}, &Invoice{}),
//		check.Allow(check.ViewNotInvoker, "public.totals", "shows no rows, only sums"))
func CheckWith(t testing.TB, db *gorm.DB, i rls.Isolation, opts ...check.Option) {
	t.Helper()
	report, err := i.Check(t.Context(), db, opts...)
	if err != nil {
		t.Errorf("the database could not be checked: %v", err)
		return
	}
	for _, unseen := range report.NotChecked {
		t.Log(unseen)
	}
	for _, f := range report.Findings {
		t.Error(text(f))
	}
	if report.Tables == 0 {
		t.Error("no table has the tenant column, so nothing is proved: migrate first, or set Isolation.Column")
	}
}

// text is a finding with its remedy.
func text(f check.Finding) string {
	if f.Fix == "" {
		return f.String()
	}
	return f.String() + "\n\t" + strings.ReplaceAll(f.Fix, "\n", "\n\t")
}
