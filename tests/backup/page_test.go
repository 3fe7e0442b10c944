package backup

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// snippet returns the SQL on the page that contains the text, with the names of this database.
func snippet(t *testing.T, containing string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/backups.md")
	require.NoError(t, err)
	for _, block := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if strings.Contains(block[1], containing) {
			return block[1]
		}
	}
	require.Fail(t, "the page has no such SQL", containing)
	return ""
}

// TestPageGrantsSuffice runs the page's SQL, and dumps with what it grants: tables without a model, also later ones.
func TestPageGrantsSuffice(t *testing.T) {
	for name, run := range map[string]func(d database, role string){
		"pg_read_all_data": func(d database, role string) {
			_, grant, found := strings.Cut(snippet(t, "pg_read_all_data"), ";")
			require.True(t, found)
			d.AsSuperuser(t, strings.ReplaceAll(grant, "shop_backup", role))
		},
		"grants": func(d database, role string) {
			d.AsOwner(t, strings.ReplaceAll(snippet(t, "DEFAULT PRIVILEGES"), "shop_backup", role))
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			d.AsOwner(t, "CREATE TABLE versions (id serial)")
			_, problem, err := call{login: d.login}.try(t, "pg_dump")
			require.Error(t, err)
			require.Contains(t, problem, "permission denied")
			run(d, d.backup.BackupRole)
			d.AsOwner(t, "CREATE TABLE later (id serial)")
			require.Contains(t, call{login: d.login}.run(t, "pg_dump"), "COPY public.later")
		})
	}
}

// TestOwnerRestores restores a whole dump as the owner, who is not bound until the policies are there.
func TestOwnerRestores(t *testing.T) {
	d, target := newDatabase(t), emptyDatabase(t)
	dump := call{login: d.login, args: []string{"--format=custom", "--schema=public"}}.run(t, "pg_dump")
	target.AsOwner(t, "DROP SCHEMA public")
	target.AsSuperuser(t, "GRANT CREATE ON DATABASE "+target.Name+" TO "+target.Owner.Role)
	call{login: target.Owner.DSN, input: dump, args: []string{"--exit-on-error", "--no-comments"}}.run(t, "pg_restore")
	require.Equal(t, sums(t, d.super), sums(t, target.super))
	require.Equal(t, query(t, d.super, isolation), query(t, target.super, isolation))
}
