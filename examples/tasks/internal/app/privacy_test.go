package app

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

const bob = "bob@example.com"

// addBob makes a person of a tenant, with a key that has written a comment, has a role, a flag of its own and a task. It returns the person's client
// and the comment.
func addBob(c client, words string) (person client, comment answer) {
	c.t.Helper()
	key := c.want(http.StatusCreated, http.MethodPost, "/v1/keys",
		object{"name": "Bob's key", "scopes": []string{"tasks:read", "tasks:write", "projects:read", "projects:write"}})
	member := c.want(http.StatusCreated, http.MethodPost, "/v1/members", object{"email": "Bob@Example.com", "name": "Bob Bobson", "key_id": key.id()})
	c.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + key.id(), "role": "member"})
	c.want(http.StatusNoContent, http.MethodPut, "/v1/flags/theme/override", object{"subject": "key:" + key.id(), "variant": "dark"})
	person = client{c.t, c.h, key.body["key"].(string)}
	task := c.want(http.StatusCreated, http.MethodPost, "/v1/tasks",
		object{"project_id": c.project(fresh()).id(), "title": "Bob's task", "assignee_id": member.id()})
	comment = person.want(http.StatusCreated, http.MethodPost, "/v1/tasks/"+task.id()+"/comments", object{"text": words}, "Idempotency-Key", fresh())
	return person, comment
}

// TestPrivacyOfOnePersonInTwoTenants: each tenant exports and erases what it holds itself of a person that both know.
func TestPrivacyOfOnePersonInTwoTenants(t *testing.T) {
	var d *pgserver.Database
	a := start(t, func(database *pgserver.Database, _ *Config) { d = database })
	acme, globex := clients(t, a)
	acmeBob, acmeComment := addBob(acme, "words for acme")
	globexBob, globexComment := addBob(globex, "words for globex")

	exported := export(globex, bob)
	require.Contains(t, exported, "words for globex")
	require.Contains(t, exported, "Bob Bobson")
	require.NotContains(t, exported, "words for acme")
	require.NotContains(t, exported, acmeComment.id())
	require.NotContains(t, exported, `"hash"`)

	before := export(acme, bob)
	plan := acme.want(http.StatusOK, http.MethodPost, "/v1/privacy/erasures", object{"email": bob, "dry_run": true})
	require.Equal(t, "no-store", plan.header.Get("Cache-Control"))
	require.NotContains(t, plan.text, bob)
	rows := holdingRows(plan)
	require.Equal(t, map[string]float64{
		"delete public.members": 1, "unlink public.tasks": 1, "anonymise public.comments": 1, "delete public.api_keys": 1, "delete public.role_grants": 1,
		"anonymise public.role_grants": 0, "delete public.flag_overrides": 1, "anonymise public.flag_overrides": 0,
	}, rows)
	require.Equal(t, data(before), data(export(acme, bob)), "a dry run changes nothing")
	require.NotEqual(t, http.StatusUnauthorized, acmeBob.do(http.MethodGet, "/v1/tasks", nil).status)

	report := acme.want(http.StatusOK, http.MethodPost, "/v1/privacy/erasures", object{"email": strings.ToUpper(bob), "dry_run": false})
	require.NotContains(t, report.text, bob)
	require.Positive(t, report.body["records"])
	require.EqualValues(t, plan.body["messages"], report.body["messages"])
	acmeBob.want(http.StatusUnauthorized, http.MethodGet, "/v1/tasks", nil)
	acme.want(http.StatusNotFound, http.MethodPost, "/v1/privacy/exports", object{"email": bob})
	acme.want(http.StatusNotFound, http.MethodPost, "/v1/privacy/erasures", object{"email": bob, "dry_run": false})
	comments := acme.want(http.StatusOK, http.MethodGet, "/v1/tasks/"+acmeComment.body["task_id"].(string)+"/comments", nil)
	require.Equal(t, "erased", comments.items()[0].(object)["text"])
	require.Equal(t, "erased", comments.items()[0].(object)["author"])

	globexBob.want(http.StatusOK, http.MethodGet, "/v1/tasks", nil)
	require.Equal(t, data(exported), data(export(globex, bob)), "what the other tenant holds is as it was")
	comments = globex.want(http.StatusOK, http.MethodGet, "/v1/tasks/"+globexComment.body["task_id"].(string)+"/comments", nil)
	require.Equal(t, "words for globex", comments.items()[0].(object)["text"])

	requireForgotten(t, d, "acme", bob, "Bob Bobson", "words for acme")
	require.Error(t, forgotten(t, d, "globex", bob), "the search finds what is there")
	kinds := []string{}
	for _, item := range acme.want(http.StatusOK, http.MethodGet, "/v1/audit?filter=table:eq:privacy_requests", nil).items() {
		kinds = append(kinds, item.(object)["after"].(object)["kind"].(string))
	}
	require.Equal(t, []string{"erase", "export", "erase plan", "export"}, kinds)
}

// TestPrivacyRefuses: a person that another tenant alone knows is not known here, and erasing is no way to take what a caller may not take.
func TestPrivacyRefuses(t *testing.T) {
	acme, globex := clients(t, start(t))
	addBob(acme, "words for acme")
	unknown := globex.want(http.StatusNotFound, http.MethodPost, "/v1/privacy/exports", object{"email": "eve@example.com"})
	require.Equal(t, unknown.text, globex.want(http.StatusNotFound, http.MethodPost, "/v1/privacy/exports", object{"email": bob}).text)
	for _, dry := range []bool{true, false} {
		got := globex.want(http.StatusNotFound, http.MethodPost, "/v1/privacy/erasures", object{"email": bob, "dry_run": dry})
		require.Equal(t, unknown.text, got.text)
	}
	// The key of another tenant, and the member of another, do not exist.
	acmeKey := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": "x", "scopes": []string{"tasks:read"}})
	globex.want(http.StatusNotFound, http.MethodPost, "/v1/members", object{"email": bob, "name": "Bob", "key_id": acmeKey.id()})
	acmeMember := acme.want(http.StatusCreated, http.MethodPost, "/v1/members", object{"email": "x@example.com", "name": "X"})
	globex.want(http.StatusNotFound, http.MethodPost, "/v1/tasks",
		object{"project_id": globex.project(fresh()).id(), "title": "t", "assignee_id": acmeMember.id()})

	// An administrator who says that an owner's key is Mallory's, to erase the owner.
	key := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys",
		object{"name": "admin", "scopes": []string{"members:write", "privacy:write", "keys:read"}})
	acme.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + key.id(), "role": "admin"})
	admin := client{t, acme.h, key.body["key"].(string)}
	owner := "00000000-0000-4000-8000-00000000ac3e"
	admin.want(http.StatusCreated, http.MethodPost, "/v1/members", object{"email": "mallory@example.com", "name": "M", "key_id": owner})
	for _, dry := range []bool{true, false} {
		admin.want(http.StatusForbidden, http.MethodPost, "/v1/privacy/erasures", object{"email": "mallory@example.com", "dry_run": dry})
		acme.want(http.StatusConflict, http.MethodPost, "/v1/privacy/erasures", object{"email": "mallory@example.com", "dry_run": dry}) // the last owner
	}
	acme.want(http.StatusOK, http.MethodGet, "/v1/roles", nil)

	// A key without the scope, and a caller without the role.
	for name, scopes := range map[string][]string{"no scope": {"members:read"}, "no role": {"privacy:write"}} {
		key := acme.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": name, "scopes": scopes})
		c := client{t, acme.h, key.body["key"].(string)}
		c.want(http.StatusForbidden, http.MethodPost, "/v1/privacy/exports", object{"email": bob})
		c.want(http.StatusForbidden, http.MethodPost, "/v1/privacy/erasures", object{"email": bob, "dry_run": false})
	}
	require.Contains(t, export(acme, bob), "words for acme")
}

// holdingRows returns the rows of each holding of a report.
func holdingRows(report answer) map[string]float64 {
	rows := map[string]float64{}
	for _, h := range report.body["holdings"].([]any) {
		h := h.(object)
		rows[h["erasure"].(string)+" "+h["table"].(string)] += h["rows"].(float64)
	}
	return rows
}

// export returns the texts of all files of a person's archive, with their names.
func export(c client, email string) string {
	c.t.Helper()
	answer := c.want(http.StatusOK, http.MethodPost, "/v1/privacy/exports", object{"email": email})
	require.Equal(c.t, "application/x-tar", answer.header.Get("Content-Type"))
	require.Equal(c.t, "no-store", answer.header.Get("Cache-Control"))
	var all strings.Builder
	for files := tar.NewReader(strings.NewReader(answer.text)); ; {
		file, err := files.Next()
		if errors.Is(err, io.EOF) {
			return all.String()
		}
		require.NoError(c.t, err)
		text, err := io.ReadAll(files)
		require.NoError(c.t, err)
		all.WriteString(file.Name + "\n" + string(text) + "\n")
	}
}

// data is an export without its manifest, which has the time, and without when keys were used.
func data(export string) string {
	rows, _, _ := strings.Cut(export, "manifest.json")
	return rows
}

func requireForgotten(t *testing.T, d *pgserver.Database, tenant string, words ...string) {
	t.Helper()
	require.NoError(t, forgotten(t, d, tenant, words...))
}

// forgotten searches all tables, as a superuser, for rows of a tenant that have one of these words.
func forgotten(t *testing.T, d *pgserver.Database, tenant string, words ...string) error {
	t.Helper()
	superuser, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	superuser.Path = "/" + d.Name
	db, err := connect(superuser.String())
	require.NoError(t, err)
	defer func() { _ = disconnect(db) }()
	pool, err := db.DB()
	require.NoError(t, err)
	tables, err := pool.QueryContext(t.Context(), `SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
		WHERE attname = 'tenant_id' AND relkind = 'r'`)
	require.NoError(t, err)
	defer func() { _ = tables.Close() }()
	var names []string
	for tables.Next() {
		var name string
		require.NoError(t, tables.Scan(&name))
		names = append(names, name)
	}
	require.NoError(t, tables.Err())
	require.Greater(t, len(names), 10)
	for _, table := range names {
		for _, word := range words {
			var n int
			query := "SELECT count(*) FROM " + table + " AS r WHERE tenant_id = $1 AND position(lower($2) IN lower(r::text)) > 0"
			require.NoError(t, pool.QueryRowContext(t.Context(), query, tenant, word).Scan(&n))
			if n > 0 {
				return errors.New(table + " has " + word)
			}
		}
	}
	return nil
}
