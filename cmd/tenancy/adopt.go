package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/gormtenancy/tenancy/internal/policy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// adoptCommand reports what the tables of a database still need until they are isolated.
type adoptCommand struct {
	connection
	signature
	format string
}

func (c *adoptCommand) flags(fs *flag.FlagSet) {
	c.connection.flags(fs)
	c.format = "text"
	fs.StringVar(&c.appRole, "app-role", "", "the `role` of the new version: report also what it may not do yet")
	c.signature.flags(fs, ": report also which do not")
	fs.Func("format", "the `format` of the report: text or json (default text)", func(name string) error {
		if name != "text" && name != "json" {
			return fmt.Errorf("must be text or json")
		}
		c.format = name
		return nil
	})
}

const adoptDetails = `
It reports for each table which stage of a rollout it is in: none, observe, shadow or enforce, and what the next step is.
It reads the catalog, and looks for one row without a tenant in each table that may have one. As long as no table has the column, the exit code is 1.
`

// adopted is a table on its way.
type adopted struct {
	Table      string   `json:"table"` // qualified and quoted
	Stage      string   `json:"stage"` // "none", "observe", "shadow" or "enforce"
	Rows       int64    `json:"rows"`  // as the planner estimates; -1 where it was never analyzed
	Column     string   `json:"column,omitempty"`
	Nullable   bool     `json:"nullable,omitempty"`
	Readable   bool     `json:"-"`
	Parents    []string `json:"parents,omitempty"` // tenant tables that it refers to
	Uniques    []string `json:"uniques,omitempty"` // unique indexes without the tenant column
	Grants     bool     `json:"-"`
	Signature  string   `json:"signature,omitempty"`           // with --signed, of its policy: "none", "accepted" or "demanded"
	Unresolved *bool    `json:"rows_without_tenant,omitempty"` // null where it is not known
	Needs      []need   `json:"needs"`
}

// need is what a table still needs.
type need struct {
	Problem string `json:"problem"`
	Step    string `json:"step,omitempty"` // the SQL or the Go of the next step
}

var adoptQuery = `
WITH relation AS (
	SELECT c.oid, c.oid::regclass::text AS name, c.reltuples, c.relrowsecurity, c.relforcerowsecurity, a.attnum, a.attnotnull,
		format_type(a.atttypid, a.atttypmod) AS type,
		EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'tenant_isolation') AS policy,
		EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid AND polname = 'tenant_rollout') AS rollout,
		EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'tenancy_rollout') AS giver
	FROM pg_class c
	LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $1 AND a.attnum > 0 AND NOT a.attisdropped
	WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
		AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace))
SELECT coalesce(json_agg(json_build_object(
	'table',    r.name,
	'stage',    CASE
		WHEN attnum IS NULL THEN 'none'
		WHEN policy AND relrowsecurity AND relforcerowsecurity AND NOT rollout AND NOT giver THEN 'enforce'
		WHEN policy AND relrowsecurity THEN 'shadow'
		ELSE 'observe' END,
	'rows',     r.reltuples::bigint,
	'column',   r.type,
	'nullable', NOT r.attnotnull,
	'readable', has_table_privilege(r.oid, 'SELECT') AND NOT row_security_active(r.oid),
	'parents',  (
		SELECT json_agg(DISTINCT p.name ORDER BY p.name) FROM pg_constraint k JOIN relation p ON p.oid = k.confrelid
		WHERE k.conrelid = r.oid AND k.contype = 'f' AND p.attnum IS NOT NULL AND p.oid <> r.oid),
	'uniques',  (
		SELECT json_agg(indexrelid::regclass::text ORDER BY indexrelid::regclass::text) FROM pg_index
		WHERE indrelid = r.oid AND indisunique AND NOT indisprimary AND r.attnum IS NOT NULL AND NOT r.attnum = ANY (indkey)),
	'policy',   (SELECT ` + policy.StoredOf("p") + ` FROM pg_policy p WHERE p.polrelid = r.oid AND p.polname = 'tenant_isolation'),
	'grants',   $2 = '' OR (SELECT has_table_privilege(rolname, r.oid, 'SELECT') FROM pg_roles WHERE rolname = $2)
	) ORDER BY r.name), '[]')::text
FROM relation r`

func (c *adoptCommand) run(ctx context.Context, args []string, s streams) (int, error) {
	if err := none(args); err != nil {
		return 0, err
	}
	if err := c.validate(); err != nil {
		return 0, err
	}
	pool, err := c.open(ctx, s)
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	if err := mustExist(ctx, pool, "--app-role", c.appRole); err != nil {
		return 0, err
	}
	tables, err := c.tables(ctx, pool)
	if err != nil {
		return 0, err
	}
	exit := exitClean
	if !slices.ContainsFunc(tables, hasColumn) {
		exit = exitFound // nothing is isolated yet
	}
	for _, t := range tables {
		if len(t.Needs) > 0 && (t.Stage != "none" || len(t.Parents) > 0) {
			exit = exitFound
		}
	}
	if c.format == "json" {
		text, err := json.MarshalIndent(map[string]any{"tables": tables}, "", "  ")
		if err != nil {
			return 0, err
		}
		return exit, write(s, string(text)+"\n")
	}
	return exit, write(s, adoptText(tables, paletteFor(s)))
}

// tables returns the tables with what they need.
func (c *adoptCommand) tables(ctx context.Context, pool *sql.DB) ([]adopted, error) {
	var document string
	if err := pool.QueryRowContext(ctx, adoptQuery, c.column, c.appRole).Scan(&document); err != nil {
		return nil, err
	}
	// What the query returns and is no part of the report.
	var hidden []struct {
		Readable, Grants bool
		Policy           *policy.Stored
	}
	var tables []adopted
	for _, into := range []any{&tables, &hidden} {
		if err := json.Unmarshal([]byte(document), into); err != nil {
			return nil, err
		}
	}
	for n := range tables {
		t := &tables[n]
		t.Readable, t.Grants = hidden[n].Readable, hidden[n].Grants
		if c.signed && hidden[n].Policy != nil {
			t.Signature = c.signatureOf(*hidden[n].Policy, t.Column)
		}
		if err := c.lookForRows(ctx, pool, t); err != nil {
			return nil, err
		}
		t.Needs = c.needs(*t)
	}
	return tables, nil
}

// signatureOf says what a policy does with a signature of the tenant.
func (c *adoptCommand) signatureOf(p policy.Stored, columnType string) string {
	isolates := func(form policy.Form) bool {
		return p.Judge(policy.Config{Setting: c.setting, Column: c.column, Form: form}, columnType) != policy.Unproved
	}
	switch {
	case isolates(policy.Signed) && !isolates(policy.Unsigned):
		return "demanded"
	case isolates(policy.Either) && p.Using != nil && strings.Contains(p.Using.Text, signing.FunctionTenantEither+"("):
		return "accepted"
	}
	return "none"
}

// without is the condition that a row has no tenant. The empty text is no tenant, though it is not NULL.
func (c *adoptCommand) without() string {
	column := sqltext.Ident(c.column)
	return fmt.Sprintf("%s IS NULL OR %[1]s::text = ''", column)
}

// lookForRows finds out whether a table has rows without a tenant, if it can.
func (c *adoptCommand) lookForRows(ctx context.Context, pool *sql.DB, t *adopted) error {
	switch {
	case t.Column == "":
		return nil
	case !t.Readable:
		return nil // not known
	}
	var found bool
	if err := pool.QueryRowContext(ctx, fmt.Sprintf("SELECT EXISTS (SELECT FROM %s WHERE %s)", t.Table, c.without())).Scan(&found); err != nil {
		return err
	}
	t.Unresolved = &found
	return nil
}

// needs says what a table still needs, in the order in which to do it.
func (c *adoptCommand) needs(t adopted) []need {
	needs := []need{}
	add := func(step, problem string, args ...any) {
		needs = append(needs, need{fmt.Sprintf(problem, args...), step})
	}
	if t.Column == "" {
		if len(t.Parents) > 0 {
			add("rls.StageObserve adds the column, and fills it from these tables", "it refers to a tenant table (%s), and has no column %s", strings.Join(t.Parents, ", "), c.column)
		} else {
			add(fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s text", t.Table, sqltext.Ident(c.column)),
				"every tenant shares it: if its rows belong to tenants, give its model the column, or the table")
		}
		return needs
	}
	switch {
	case t.Unresolved == nil && t.Nullable:
		add("run this command as the owner, before the policies are forced", "whether rows have no tenant cannot be seen by this login")
	case t.Unresolved != nil && *t.Unresolved:
		add(fmt.Sprintf("SELECT * FROM %s WHERE %s", t.Table, c.without()), "rows have no tenant, and would be hidden: name it in rls.Isolation.Fills")
	}
	if len(t.Uniques) > 0 {
		add("rls.StageEnforce does so for tags of models, and WidenUniques for others", "unique among all tenants: %s", strings.Join(t.Uniques, ", "))
	}
	if !t.Grants {
		add("rls.Isolation.AppRole", "%s may not read it", c.appRole)
	}
	switch t.Stage {
	case "observe":
		add("rls.StageShadow, or rls.StageEnforce", "no policy isolates it")
	case "shadow":
		add("rls.StageEnforce", "its policies do not bind the older version or the owner")
	}
	switch {
	case t.Signature == "none":
		add("rls.Isolation.Signed, with DangerouslyAcceptUnsigned while an instance runs without a key", "its policy asks for no signature of the tenant")
	case t.Signature == "accepted" && !c.either:
		add("rls.Isolation.Signed without DangerouslyAcceptUnsigned, when no instance runs without a key", "its policy takes statements without a signature of the tenant as well")
	}
	return needs
}

func hasColumn(t adopted) bool { return t.Column != "" }

// adoptText writes the report for people.
func adoptText(tables []adopted, p palette) string {
	var b strings.Builder
	stages := map[string]int{}
	for _, t := range tables {
		stages[t.Stage]++
		rows := "never analyzed"
		if t.Rows >= 0 {
			rows = "about " + count(int(t.Rows), "row")
		}
		fmt.Fprintf(&b, "%s%s%s: %s, %s\n", p.bold, line(t.Table), p.reset, t.Stage, rows)
		for _, n := range t.Needs {
			fmt.Fprintf(&b, "  %s\n    %s%s%s\n", line(n.Problem), p.dim, line(n.Step), p.reset)
		}
	}
	fmt.Fprintf(&b, "\n%s: %d in none, %d in observe, %d in shadow, %d in enforce.\n", count(len(tables), "table"),
		stages["none"], stages["observe"], stages["shadow"], stages["enforce"])
	if !slices.ContainsFunc(tables, hasColumn) {
		b.WriteString("No table has the tenant column yet. Give it to the model of the table that names the tenants: rls.StageObserve then adds it there,\n" +
			"and to the tables that refer to it, and fills it by rls.Isolation.Fills.\n")
	}
	return b.String()
}
