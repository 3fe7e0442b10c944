package plans

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// findings are the rows of the tables of the document.
type findings struct {
	compared, worseForms, filtered, searches strings.Builder
}

func line(b *strings.Builder, cells ...string) {
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}

func count(n int) string { return fmt.Sprint(n) }

func millis(m measured) string { return rounded(m.median()) }

// times is how many times as long as plain it took.
func times(m, plain measured) string { return rounded(m.median() / plain.median()) }

// rounded keeps two digits: more would be noise.
func rounded(x float64) string {
	switch {
	case x >= 10:
		return fmt.Sprintf("%.0f", x)
	case x >= 1:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

func (r *findings) compare(w *fixture, plain, isolated measurements) {
	for _, q := range w.queries() {
		p, m := plain[q.name], isolated[q.name]
		line(&r.compared, w.name, q.name, count(p.buffers), count(m.buffers), millis(p), millis(m), times(m, p), m.plan.String())
	}
}

func (r *findings) worse(name string, w *fixture, plain, found measurements) {
	for _, q := range w.queries() {
		p, m := plain[q.name], found[q.name]
		line(&r.worseForms, name, w.name, q.name, count(p.buffers), count(m.buffers), millis(m), times(m, p), m.plan.String())
	}
}

func (r *findings) perRow(once, each measured) {
	line(&r.filtered, "once, by the sub-select", count(once.buffers), millis(once), "1")
	line(&r.filtered, "for each row", count(each.buffers), millis(each), times(each, once))
}

func (r *findings) search(name string, plain, m measured) {
	line(&r.searches, name, count(m.buffers), millis(m), times(m, plain), m.plan.String())
}

const begin, end = "<!-- measured: begin -->\n", "<!-- measured: end -->"

// write puts the tables between the markers of the document.
func (r *findings) write(t *testing.T, path string) {
	t.Helper()
	document, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(document), begin)
	require.True(t, found, "no %q", begin)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found, "no %q", end)

	var b strings.Builder
	fmt.Fprintf(&b, "\n%d rows of %d tenants in each table.\n", *rows, tenants)
	table := func(title string, rows *strings.Builder, columns ...string) {
		fmt.Fprintf(&b, "\n### %s\n\n", title)
		line(&b, columns...)
		fmt.Fprintf(&b, "|%s\n%s", strings.Repeat("---|", len(columns)), rows)
	}
	table("The canonical policy", &r.compared,
		"column", "query", "buffers, plain", "buffers, policy", "ms, plain", "ms, policy", "policy / plain", "plan")
	table("Worse forms", &r.worseForms,
		"policy", "column", "query", "buffers, plain", "buffers", "ms", "/ plain", "plan")
	table("The setting, read once or for each row", &r.filtered, "read", "buffers", "ms", "ratio")
	table("Searches that are not leakproof", &r.searches, "search", "buffers", "ms", "/ without a policy", "plan")
	b.WriteString("\n")
	require.NoError(t, os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o600))
}

// enlargeBuffers makes room for all pages, so that a time has nothing to do with a disk.
func enlargeBuffers(t *testing.T) {
	t.Helper()
	server := pgserver.Shared(t)
	conn, err := pgx.Connect(t.Context(), server.DSN())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "ALTER SYSTEM SET shared_buffers = '1GB'")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, server.Restart(t.Context()))
}
