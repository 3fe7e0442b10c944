package cmd_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// record takes a snapshot into a file of a new folder.
func (d database) record(t *testing.T) string {
	t.Helper()
	r := tenancy(t, d.roles("snapshot", "--dsn", d.Owner.DSN)...)
	require.Equal(t, 0, r.exit, r.errors)
	require.Empty(t, r.errors)
	file := filepath.Join(t.TempDir(), "snapshot.json")
	write(t, file, r.out)
	return file
}

// roles names the roles of the database.
func (d database) roles(command string, more ...string) []string {
	return append([]string{command, "--app-role", d.App.Role, "--admin-role", d.Admin.Role}, more...)
}

type snapshotted struct {
	Version int
	Roles   []struct{ Name string }
	Tables  []struct {
		Name         string
		TenantColumn *struct{ Type string } `json:"tenant_column"`
		RowSecurity  bool                   `json:"row_security"`
		Forced       bool
		Policies     []struct{ Name, Using string }
		Grants       map[string][]string
		UniqueKeys   []struct{ Name string }                 `json:"unique_keys"`
		ForeignKeys  []struct{ References, OnDelete string } `json:"foreign_keys"`
	}
}

func TestSnapshot(t *testing.T) {
	d := newDatabase(t)
	d.AsOwner(t, "CREATE TABLE visits (id bigint PRIMARY KEY, patient_id bigint REFERENCES patients ON DELETE CASCADE)")
	file := d.record(t)
	require.Equal(t, read(t, file), read(t, d.record(t)), "the same state is the same text")
	r := tenancy(t, d.roles("snapshot", "--dsn", d.App.DSN)...)
	require.Equal(t, read(t, file), r.out, "the same for each role that takes it")
	for _, login := range []string{d.Owner.DSN, d.App.DSN} {
		_, password, _ := strings.Cut(login, ":")
		_, password, _ = strings.Cut(password, ":")
		password, _, _ = strings.Cut(password, "@")
		require.NotEmpty(t, password)
		require.NotContains(t, r.out, password)
	}

	var s snapshotted
	parse(t, r.out, &s)
	require.Equal(t, 1, s.Version)
	var names []string
	for _, table := range s.Tables {
		names = append(names, table.Name)
	}
	require.Equal(t, []string{"public.countries", "public.invoices", "public.patients", "public.visits"}, names)
	require.Nil(t, s.Tables[0].TenantColumn, "shared")
	patients := s.Tables[2]
	require.Equal(t, "text", patients.TenantColumn.Type)
	require.True(t, patients.RowSecurity && patients.Forced)
	require.Len(t, patients.Policies, 2)
	require.Contains(t, patients.Policies[1].Using, "current_setting('app.tenant_id'")
	require.Equal(t, []string{"DELETE", "INSERT", "SELECT", "UPDATE"}, patients.Grants[d.App.Role])
	require.Equal(t, "public.patients", s.Tables[3].ForeignKeys[0].References)
}

func TestSnapshotOfNothing(t *testing.T) {
	d := newDatabase(t)
	tenancy(t, d.roles("snapshot", "--dsn", d.Owner.DSN, "--column", "org_id")...).failed(t, `no table has the column "org_id"`)
	tenancy(t, d.roles("snapshot", "--dsn", d.Owner.DSN, "--schema", "nowhere")...).failed(t, `schema "nowhere" does not exist`)
	tenancy(t, "snapshot", "--dsn", d.Owner.DSN, "--lookup-role", "nobody_here").failed(t, `--lookup-role: role "nobody_here" does not exist`)
	tenancy(t, "snapshot").failed(t, "add --dsn or set DATABASE_URL")
}
