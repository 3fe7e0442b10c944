package snapshot

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sample has a value in each field.
const sample = `{
	"version": 1, "postgresql": 17, "signed": false, "setting": "app.tenant_id", "column": "tenant_id",
	"purposes": {"app": "app", "admin": "admin", "read_only": "reports", "lookup": "finder"},
	"roles": [
		{"name": "app", "superuser": false, "bypass_rls": false, "create_role": false, "replication": false, "login": true,
			"member_of": [{"role": "admin", "inherit": false, "set": true, "admin": false}, {"role": "staff", "inherit": true, "set": true, "admin": false}]},
		{"name": "admin"}, {"name": "reports"}, {"name": "finder"},
		{"name": "staff", "superuser": false, "bypass_rls": false, "create_role": false, "replication": false, "login": false},
		{"name": "owner", "superuser": false, "bypass_rls": false, "create_role": false, "replication": false, "login": true}],
	"settings": [{"role": "app", "database": true, "name": "search_path", "value": "public"}],
	"schemas": [{"name": "public", "owner": "owner", "grants": {"app": ["USAGE"]}}],
	"tables": [
		{"name": "public.notes", "kind": "table", "owner": "owner", "row_security": true, "forced": true,
			"tenant_column": {"type": "text", "not_null": true, "default": "x", "loose_collation": false},
			"policies": [
				{"name": "strict", "command": "ALL", "permissive": false, "roles": ["PUBLIC"], "using": "(a)", "with_check": "(b)", "uses_others": false},
				{"name": "tenant_isolation", "command": "ALL", "permissive": true, "roles": ["PUBLIC"],
					"using": "(tenant_id = ( SELECT NULLIF(current_setting('app.tenant_id'::text, true), ''::text) AS \"nullif\"))", "uses_others": false}],
			"grants": {"app": ["SELECT"]},
			"unique_keys": [{"name": "notes_key", "definition": "UNIQUE (tenant_id, id)", "holds_tenant": true}],
			"foreign_keys": [{"name": "k", "columns": ["tenant_id", "author_id"], "references": "public.authors", "keys": ["tenant_id", "id"],
				"on_delete": "NO ACTION", "on_update": "NO ACTION", "valid": true}],
			"parents": ["public.all_notes"],
			"triggers": [{"name": "g", "definition": "CREATE TRIGGER g", "security_definer": false, "enabled": true}],
			"rules": ["CREATE RULE r"]},
		{"name": "public.authors", "kind": "table", "owner": "owner", "row_security": true, "forced": true, "tenant_column": {"type": "text", "not_null": true}}],
	"views": [{"name": "public.v", "owner": "owner", "materialized": false, "security_invoker": false, "reads": ["public.notes"],
		"definition": "SELECT 1", "grants": {"app": ["SELECT"]}, "rules": ["CREATE RULE r"]}],
	"database": {"PUBLIC": ["CONNECT"]}, "parameters": [{"name": "jit", "grants": {"app": ["SET"]}}],
	"foreign_servers": [{"name": "s", "user_mappings": ["app"], "grants": {"app": ["USAGE"]}}],
	"functions": [{"name": "public.f()", "owner": "owner", "security_definer": true, "verifies": false, "leakproof": false, "settings": ["jit"], "search_path": "public", "source": "abc", "grants": {"PUBLIC": ["EXECUTE"]}}],
	"sequences": [{"name": "public.s", "grants": {"app": ["USAGE"]}}],
	"default_privileges": [{"role": "owner", "schema": "public", "objects": "tables", "grants": {"app": ["SELECT"]}}],
	"publications": [{"name": "p", "all_tables": false, "tables": ["public.notes"]}]
}`

func parsed(t *testing.T, text string) Snapshot {
	t.Helper()
	s, err := Parse([]byte(text))
	require.NoError(t, err)
	return s
}

// TestDiffSeesEachValue changes one value of a snapshot after the other. None is recorded that the comparison would miss.
func TestDiffSeesEachValue(t *testing.T) {
	var document any
	require.NoError(t, json.Unmarshal([]byte(sample), &document))
	count := 0
	change(document, "", func(path string) {
		if path == ".version" {
			return
		}
		count++
		text, err := json.Marshal(document)
		require.NoError(t, err)
		changed, err := Parse(text)
		if err != nil {
			return // which the comparison refuses, too
		}
		for _, pair := range [][2]Snapshot{{parsed(t, sample), changed}, {changed, parsed(t, sample)}} {
			differences, err := Diff(pair[0], pair[1])
			assert.True(t, err != nil || len(differences) > 0, path)
			for _, d := range differences {
				assert.NotEqual(t, d.Before, d.After, "%s: %v", path, d)
				assert.True(t, d.Object != "" && d.Subject != "" && strings.HasSuffix(d.Reason, "."), "%s: %v", path, d)
			}
		}
	})
	require.Greater(t, count, 80)
	differences, err := Diff(parsed(t, sample), parsed(t, sample))
	require.NoError(t, err)
	require.Empty(t, differences)
}

// change calls a function with each value of a document changed, and changes it back.
func change(value any, path string, then func(path string)) {
	each := func(old any, set func(any), path string) {
		switch v := old.(type) {
		case string:
			set(v + "x")
		case float64:
			set(v + 1)
		case bool:
			set(!v)
		default:
			change(old, path, then)
			return
		}
		then(path)
		set(old)
	}
	switch v := value.(type) {
	case map[string]any:
		for key, old := range v {
			each(old, func(x any) { v[key] = x }, path+"."+key)
		}
	case []any:
		for n, old := range v {
			each(old, func(x any) { v[n] = x }, fmt.Sprintf("%s[%d]", path, n))
		}
	}
}

func TestJSONIsRead(t *testing.T) {
	s := parsed(t, sample)
	text, err := s.JSON()
	require.NoError(t, err)
	require.Equal(t, s, parsed(t, text))
	require.Equal(t, []string{"public.authors", "public.notes"}, []string{s.Tables[0].Name, s.Tables[1].Name}, "sorted")
}

func TestDiffOfRolesThatCannotBeTold(t *testing.T) {
	other := strings.NewReplacer(`"app": "app"`, `"app": "web"`, `"app"`, `"web"`).Replace(sample)
	differences, err := Diff(parsed(t, sample), parsed(t, other))
	require.NoError(t, err)
	require.Empty(t, differences)
	other = strings.Replace(other, `{"name": "staff"`, `{"name": "app"}, {"name": "staff"`, 1)
	_, err = Diff(parsed(t, sample), parsed(t, other))
	require.ErrorContains(t, err, "the role app has a purpose in the first snapshot, which web has in the second")

	swapped := strings.NewReplacer(`"app": "app", "admin": "admin"`, `"app": "admin", "admin": "app"`,
		`"admin": false`, `"admin": false`, `"admin"`, `"app"`, `"app"`, `"admin"`).Replace(sample)
	differences, err = Diff(parsed(t, sample), parsed(t, swapped))
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestKeyLevel(t *testing.T) {
	tenant, shared := &Column{Type: "text"}, (*Column)(nil)
	for _, c := range []struct {
		child, parent *Column
		columns, keys []string
		action        string
		level         int
	}{
		{tenant, tenant, []string{"tenant_id", "id"}, []string{"tenant_id", "id"}, "CASCADE", 0},
		{tenant, tenant, []string{"tenant_id", "id"}, []string{"id", "tenant_id"}, "NO ACTION", 1},
		{tenant, tenant, []string{"id"}, []string{"id"}, "NO ACTION", 1},
		{tenant, tenant, []string{"id"}, []string{"id"}, "SET NULL", 2},
		{tenant, shared, []string{"plan_id"}, []string{"id"}, "NO ACTION", 0},
		{tenant, shared, []string{"plan_id"}, []string{"id"}, "CASCADE", 2},
		{tenant, shared, []string{"tenant_id"}, []string{"id"}, "CASCADE", 0}, // the table of tenants
		{shared, tenant, []string{"note_id"}, []string{"id"}, "NO ACTION", 2}, // a child without its tenant
		{shared, shared, []string{"id"}, []string{"id"}, "CASCADE", 0},
	} {
		s := newSide(Snapshot{Column: "tenant_id", Tables: []Table{{Name: "child", Column: c.child}, {Name: "parent", Column: c.parent}}})
		key := ForeignKey{Columns: c.columns, References: "parent", Keys: c.keys, OnDelete: c.action, OnUpdate: "NO ACTION"}
		require.Equal(t, c.level, s.keyLevel(s.tables["child"], key), "%+v", c)
	}
}
