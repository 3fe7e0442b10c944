package roles

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func connect(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard, TranslateError: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		pool, err := db.DB()
		require.NoError(t, err)
		require.NoError(t, pool.Close())
	})
	return db
}

// open makes a database with the tenants acme and globex, whose owners are key:acme and key:globex.
func open(t *testing.T) (*Roles, *gorm.DB) {
	t.Helper()
	d := pgserver.New(t)
	_, err := rls.Isolation{AppRole: d.App.Role}.Migrate(t.Context(), connect(t, d.Owner.DSN), &Grant{})
	require.NoError(t, err)
	db := connect(t, d.App.DSN)
	require.NoError(t, db.Use(tenancy.New(tenancy.Config{})))
	for _, tenant := range []string{"acme", "globex"} {
		require.NoError(t, Found(db.WithContext(as(t, tenant)), "key:"+tenant))
	}
	return newRoles(t, db), db
}

func newRoles(t *testing.T, db *gorm.DB) *Roles {
	t.Helper()
	r, err := New(db, nil)
	require.NoError(t, err)
	t.Cleanup(r.Close)
	return r
}

func as(t *testing.T, tenant string) context.Context { return tenancy.WithTenant(t.Context(), tenant) }

func (r *Roles) requireAllows(t *testing.T, tenant, subject, action, resource string, want bool) {
	t.Helper()
	got, err := r.Allows(as(t, tenant), subject, action, resource)
	require.NoError(t, err)
	require.Equal(t, want, got, "%s: %s %s %s", tenant, subject, action, resource)
}

func (r *Roles) mustGrant(t *testing.T, tenant, subject, role, scope string) {
	t.Helper()
	require.NoError(t, r.Grant(as(t, tenant), "key:"+tenant, Grant{Subject: subject, Role: role, Scope: scope}))
}

func TestRolesAllow(t *testing.T) {
	r, _ := open(t)
	for _, role := range []string{Admin, Member, Viewer} {
		r.mustGrant(t, "acme", "key:"+role, role, Everywhere)
	}
	for _, c := range []struct {
		action                       string
		owner, admin, member, viewer bool
	}{
		{"tasks:read", true, true, true, true},
		{"tasks:write", true, true, true, false},
		{"flags:read", true, true, true, true},
		{"flags:write", true, true, false, false},
		{"keys:read", true, true, false, false},
		{"keys:write", true, true, false, false},
		{"audit:read", true, true, false, false},
		{"grant:viewer", true, true, false, false},
		{"grant:admin", true, true, false, false},
		{"grant:owner", true, false, false, false},
		{"audit:purge", true, false, false, false}, // what no role names is refused
		{"", false, false, false, false},
		{"tasks", false, false, false, false},
		{":", false, false, false, false},
	} {
		for subject, want := range map[string]bool{"key:acme": c.owner, "key:admin": c.admin, "key:member": c.member, "key:viewer": c.viewer,
			"key:other": false, "": false} {
			r.requireAllows(t, "acme", subject, c.action, "tasks", want)
		}
	}
}

// TestRoleOfResource holds for what is below the resource, and for nothing beside or above it.
func TestRoleOfResource(t *testing.T) {
	r, _ := open(t)
	r.mustGrant(t, "acme", "key:ann", Member, "projects/7")
	r.mustGrant(t, "acme", "key:ann", Viewer, "projects/8")
	r.mustGrant(t, "acme", "key:bob", Member, "projects/*/tasks")
	for _, c := range []struct {
		subject, action, resource string
		want                      bool
	}{
		{"key:ann", "tasks:write", "projects/7", true},
		{"key:ann", "tasks:write", "projects/7/tasks/3", true},
		{"key:ann", "tasks:write", "projects/8/tasks/3", false},
		{"key:ann", "tasks:read", "projects/8/tasks/3", true},
		{"key:ann", "tasks:read", "projects/9", false},
		{"key:ann", "tasks:read", "projects/70", false},
		{"key:ann", "tasks:read", "projects", false},
		{"key:ann", "tasks:read", "tasks/7", false},
		{"key:ann", "tasks:read", "*", false},
		{"key:bob", "tasks:write", "projects/1/tasks/2", true},
		{"key:bob", "tasks:write", "projects/1", false},
		{"key:bob", "tasks:write", "projects/1/labels", false},
	} {
		r.requireAllows(t, "acme", c.subject, c.action, c.resource, c.want)
	}
}

// TestGrantDoesNotEscalate: no caller gives more than is theirs to give, nor where it is not.
func TestGrantDoesNotEscalate(t *testing.T) {
	r, _ := open(t)
	r.mustGrant(t, "acme", "key:admin", Admin, Everywhere)
	r.mustGrant(t, "acme", "key:member", Member, Everywhere)
	r.mustGrant(t, "acme", "key:lead", Admin, "projects/7")
	for _, c := range []struct {
		granter, role, scope string
		ok                   bool
	}{
		{"key:admin", Owner, Everywhere, false},
		{"key:admin", Owner, "projects/7", false},
		{"key:admin", Admin, Everywhere, true},
		{"key:member", Viewer, Everywhere, false},
		{"key:member", Member, "projects/7", false},
		{"key:lead", Viewer, "projects/7", true},
		{"key:lead", Admin, "projects/7/tasks", true},
		{"key:lead", Viewer, "projects/8", false},
		{"key:lead", Viewer, "projects/*", false},
		{"key:lead", Viewer, "projects", false},
		{"key:lead", Viewer, Everywhere, false},
		{"key:other", Viewer, Everywhere, false},
		{"", Viewer, Everywhere, false},
	} {
		g := Grant{Subject: "key:new", Role: c.role, Scope: c.scope}
		err := r.Grant(as(t, "acme"), c.granter, g)
		require.Equal(t, c.ok, err == nil, "%+v: %v", c, err)
		if !c.ok {
			require.ErrorIs(t, err, ErrForbidden)
			_, err = r.Revoke(as(t, "acme"), c.granter, g)
			require.ErrorIs(t, err, ErrForbidden)
		}
	}
	_, err := r.Revoke(as(t, "acme"), "key:admin", Grant{Subject: "key:acme", Role: Owner, Scope: Everywhere})
	require.ErrorIs(t, err, ErrForbidden)
}

// TestSubjectCalledAsARole has no role by its name.
func TestSubjectCalledAsARole(t *testing.T) {
	r, db := open(t)
	for _, name := range []string{"owner", "role owner", "role:owner", "subject key:acme"} {
		r.requireAllows(t, "acme", name, "tasks:read", "tasks", false)
		require.ErrorIs(t, r.Grant(as(t, "acme"), name, Grant{Subject: "key:x", Role: Viewer, Scope: Everywhere}), ErrForbidden)
	}
	for _, g := range []Grant{
		{Subject: "owner", Role: Viewer, Scope: Everywhere},
		{Subject: "role owner", Role: Viewer, Scope: Everywhere},
		{Subject: "key:x\x00", Role: Viewer, Scope: Everywhere},
		{Subject: "key:x", Role: "root", Scope: Everywhere},
		{Subject: "key:x", Role: Viewer, Scope: ""},
		{Subject: "key:x", Role: Viewer, Scope: "projects/7/../8"},
		{Subject: "key:x", Role: Viewer, Scope: "/projects"},
	} {
		require.ErrorIs(t, r.Grant(as(t, "acme"), "key:acme", g), ErrMalformed, "%+v", g)
	}
	require.Error(t, db.WithContext(as(t, "acme")).Create(&Grant{Subject: "key:x", Role: "root", Scope: "*"}).Error, "the table has no such role")
}

// TestRevokeEndsRoleAtOnce, though it was in the cache.
func TestRevokeEndsRoleAtOnce(t *testing.T) {
	r, db := open(t)
	g := Grant{Subject: "key:ann", Role: Member, Scope: Everywhere}
	other := newRoles(t, db) // another process
	for range 3 {
		require.NoError(t, r.Grant(as(t, "acme"), "key:acme", g))
		require.NoError(t, r.Grant(as(t, "acme"), "key:acme", g), "twice")
		r.requireAllows(t, "acme", "key:ann", "tasks:write", "tasks", true)
		was, err := r.Revoke(as(t, "acme"), "key:acme", g)
		require.NoError(t, err)
		require.True(t, was)
		r.requireAllows(t, "acme", "key:ann", "tasks:write", "tasks", false)
		was, err = r.Revoke(as(t, "acme"), "key:acme", g)
		require.NoError(t, err)
		require.False(t, was)
	}
	// Granting never asks the cache: an admin that another process has revoked grants nothing.
	r.mustGrant(t, "acme", "key:ann", Admin, Everywhere)
	other.requireAllows(t, "acme", "key:ann", "flags:write", "flags", true)
	_, err := r.Revoke(as(t, "acme"), "key:acme", Grant{Subject: "key:ann", Role: Admin, Scope: Everywhere})
	require.NoError(t, err)
	require.ErrorIs(t, other.Grant(as(t, "acme"), "key:ann", Grant{Subject: "key:ann", Role: Admin, Scope: Everywhere}), ErrForbidden)
}

// TestLastOwnerStays, also when the owners revoke each other at the same time.
func TestLastOwnerStays(t *testing.T) {
	r, _ := open(t)
	first := Grant{Subject: "key:acme", Role: Owner, Scope: Everywhere}
	_, err := r.Revoke(as(t, "acme"), "key:acme", first)
	require.ErrorIs(t, err, ErrLastOwner)
	r.mustGrant(t, "acme", "key:ann", Owner, "projects/7") // an owner of a project is none of the tenant
	_, err = r.Revoke(as(t, "acme"), "key:acme", first)
	require.ErrorIs(t, err, ErrLastOwner)

	for round := range 10 {
		tenant := fmt.Sprint("round-", round)
		ctx := as(t, tenant)
		require.NoError(t, Found(r.db.WithContext(ctx), "key:"+tenant))
		r.mustGrant(t, tenant, "key:second", Owner, Everywhere)
		var both sync.WaitGroup
		errs := make([]error, 2)
		for i, pair := range [][2]string{{"key:" + tenant, "key:second"}, {"key:second", "key:" + tenant}} {
			both.Go(func() { _, errs[i] = r.Revoke(ctx, pair[0], Grant{Subject: pair[1], Role: Owner, Scope: Everywhere}) })
		}
		both.Wait()
		owners, err := r.List(ctx)
		require.NoError(t, err)
		require.Len(t, owners, 1, "%v", errs)
		refused := errors.Join(errs...)
		require.True(t, errors.Is(refused, ErrLastOwner) || errors.Is(refused, ErrForbidden), "%v", refused)
	}
}

// TestFoundIsForNewTenants alone: it is no way to become an owner.
func TestFoundIsForNewTenants(t *testing.T) {
	_, db := open(t)
	require.ErrorIs(t, Found(db.WithContext(as(t, "acme")), "key:evil"), ErrForbidden)
	require.NoError(t, Found(db.WithContext(as(t, "initech")), "key:initech"))
}

// TestHostileTenantHasNoRoleInOther: by the same subject, by forged rows, and by what is cached.
func TestHostileTenantHasNoRoleInOther(t *testing.T) {
	r, db := open(t)
	r.mustGrant(t, "globex", "key:shared", Admin, Everywhere)
	r.requireAllows(t, "globex", "key:shared", "flags:write", "flags", true) // fills the cache
	r.requireAllows(t, "acme", "key:shared", "tasks:read", "tasks", false)
	r.requireAllows(t, "acme", "key:globex", "tasks:read", "tasks", false)
	r.requireAllows(t, "globex", "key:acme", "tasks:read", "tasks", false)
	require.ErrorIs(t, r.Grant(as(t, "acme"), "key:globex", Grant{Subject: "key:acme", Role: Owner, Scope: Everywhere}), ErrForbidden)

	// The attacker is owner of acme, and has its SQL.
	before, err := r.List(as(t, "globex"))
	require.NoError(t, err)
	require.Len(t, before, 2)
	require.NoError(t, r.Grant(as(t, "acme"), "key:acme", Grant{ID: before[0].ID, TenantID: "globex", Subject: "key:acme", Role: Admin, Scope: Everywhere}))
	forged := Grant{TenantID: "globex", Subject: "key:acme", Role: Owner, Scope: Everywhere}
	require.ErrorIs(t, db.WithContext(as(t, "acme")).Create(&forged).Error, tenancy.ErrTenantMismatch)
	require.Error(t, db.WithContext(as(t, "acme")).Exec(`INSERT INTO role_grants (tenant_id, subject, role, scope, granted_by, created_at)
		VALUES ('globex', 'key:acme', 'owner', '*', '', now())`).Error)
	require.NoError(t, db.WithContext(as(t, "acme")).Exec("UPDATE role_grants SET subject = subject || '-stolen'").Error)
	was, err := r.Revoke(as(t, "acme"), "key:acme", Grant{Subject: "key:shared", Role: Admin, Scope: Everywhere})
	require.False(t, was)
	require.ErrorIs(t, err, ErrForbidden)

	after, err := newRoles(t, db).List(as(t, "globex"))
	require.NoError(t, err)
	require.Equal(t, before, after)
	r.requireAllows(t, "globex", "key:acme", "tasks:read", "tasks", false)
	r.requireAllows(t, "globex", "key:shared", "flags:write", "flags", true)

	// Without a tenant there is no answer.
	for _, ctx := range []context.Context{t.Context(), tenancy.WithoutTenant(t.Context())} {
		ok, err := r.Allows(ctx, "key:shared", "tasks:read", "tasks")
		require.False(t, ok)
		require.ErrorIs(t, err, tenancy.ErrNoTenant)
	}
}

// TestRolesAreNotAllowedWithoutTheDatabase: an error allows nothing.
func TestRolesAreNotAllowedWithoutTheDatabase(t *testing.T) {
	r, _ := open(t)
	ctx, cancel := context.WithCancel(as(t, "acme"))
	cancel()
	ok, err := r.Allows(ctx, "key:acme", "tasks:read", "tasks")
	require.False(t, ok)
	require.ErrorIs(t, err, context.Canceled)
	r.requireAllows(t, "acme", "key:acme", "tasks:read", "tasks", true) // the error was not kept
}

// TestManyTenantsAtOnce ask and change: each gets the answer of its own roles.
func TestManyTenantsAtOnce(t *testing.T) {
	r, db := open(t)
	roles := []string{Viewer, Member}
	for n := range 6 {
		tenant := fmt.Sprint("tenant-", n)
		require.NoError(t, Found(db.WithContext(as(t, tenant)), "key:"+tenant))
		r.mustGrant(t, tenant, "key:ann", roles[n%2], "projects/7")
	}
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			tenant := fmt.Sprint("tenant-", n)
			ctx := tenancy.WithTenant(context.Background(), tenant)
			for i := range 40 {
				if i%10 == 5 {
					if err := r.Grant(ctx, "key:"+tenant, Grant{Subject: fmt.Sprint("key:", i), Role: Viewer, Scope: "projects/1"}); err != nil {
						t.Error(err)
					}
				}
				got, err := r.Allows(ctx, "key:ann", "tasks:write", fmt.Sprint("projects/7/tasks/", i))
				if err != nil || got != (n%2 == 1) {
					t.Errorf("%s: %v, %v", tenant, got, err)
				}
			}
		})
	}
	all.Wait()
}
