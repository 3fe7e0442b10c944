package plan

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
	"github.com/gormtenancy/tenancy/rls/internal/model"
)

// reasons say what each step of the plan is for.
var reasons = map[step]string{
	stepKeys: `-- Every row has a tenant, by default the current one. What must be unique is so within each tenant: PostgreSQL checks that
-- without regard to policies, and its errors would tell what others have. The primary key becomes unique together with the
-- tenant, for foreign keys to refer to.`,
	stepDistribution: `-- Tenant tables are distributed by the tenant, those of a tenant on one shard; shared tables are copied to all workers. Foreign keys
-- and FORCE come after that.`,
	stepReferences: `-- Foreign keys between tenant tables lead with the tenant: PostgreSQL checks them without regard to policies. So no row can
-- refer to another tenant's, and no cascade delete one.`,
	stepIsolation: `-- Policies show and take only rows of the current tenant, and are forced on the owner of the table too. Roles get what they
-- need to work with rows: TRUNCATE ignores policies, REFERENCES and TRIGGER reach rows by detours.`,
	stepAudit: `-- What is inserted, updated and deleted is recorded, by whatever statement, also where changes are replicated.`,
}

// Up writes the script that makes the tables and carries out the plan.
func (p Planner) Up(made []model.Made, plan []Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- Tenants share these tables. PostgreSQL tells their rows apart by the column %s, and knows the current\n"+
		"-- tenant by the setting %s. To be run by the role that owns the tables, in a transaction; it can be repeated.\n",
		comment(p.Column), comment(p.Setting))
	if roles := p.Roles(); len(roles) > 0 {
		fmt.Fprintf(&b, "-- These roles must exist: %s.\n", comment(strings.Join(roles, ", ")))
	}
	if sequential := p.sequential(); sequential != "" {
		b.WriteString("\n" + strings.TrimSuffix(sequential, "\n"))
	}
	b.WriteString("\n-- The tables as GORM makes them.\n")
	for _, table := range made {
		fmt.Fprintf(&b, "\n-- %s\n", comment(table.Name))
		for _, statement := range table.Statements {
			b.WriteString(statement + ";\n")
		}
	}
	var (
		table string
		done  step = -1
	)
	for _, c := range plan {
		if c.step != done {
			b.WriteString("\n" + reasons[c.step] + "\n")
			done, table = c.step, ""
		}
		if c.Table != table {
			fmt.Fprintf(&b, "\n-- Table %s\n", comment(c.Table))
			table = c.Table
		}
		fmt.Fprintf(&b, "-- %s\n", comment(c.Description))
		b.WriteString(c.script())
	}
	return b.String()
}

// sequential begins a script where Citus distributes tables.
func (p Planner) sequential() string {
	if !p.Distributes {
		return ""
	}
	return "-- Citus changes shards one after the other.\n" + Sequential + ";\n\n"
}

// Down writes the script that takes away what Up made.
func (p Planner) Down(tables []Table) string {
	var b strings.Builder
	b.WriteString("-- Drops the tables, with their rows; their policies, defaults, indexes and grants go with them. Foreign keys go first,\n" +
		"-- because they can refer to each other's tables. What refers to the tables from outside keeps them from being dropped.\n\n")
	b.WriteString(p.sequential())
	for _, t := range slices.Backward(tables) {
		for _, r := range t.references {
			fmt.Fprintf(&b, "ALTER TABLE IF EXISTS %s DROP CONSTRAINT IF EXISTS %s;\n", t.Quoted(), sqltext.Ident(r.Name))
		}
	}
	for _, t := range slices.Backward(tables) {
		if t.making != "" {
			continue // it goes with the whole
		}
		fmt.Fprintf(&b, "DROP TABLE IF EXISTS %s;\n", t.Quoted())
	}
	if slices.ContainsFunc(tables, func(t Table) bool { return t.store != nil }) {
		fmt.Fprintf(&b, "DROP FUNCTION IF EXISTS %s();\n", sqltext.Ident(audit.Name))
	}
	return b.String()
}

// IndexScript writes the script that makes indexes outside of a transaction.
func IndexScript(plan []Change) string {
	var b strings.Builder
	b.WriteString("-- Indexes for tables that have rows, made while others go on writing. Not to be run in a transaction; it can be\n" +
		"-- repeated, but an index that a failed statement has left INVALID must be dropped first.\n")
	for _, c := range plan {
		if c.Apart != "" {
			fmt.Fprintf(&b, "\n-- Table %s: %s\n%s", comment(c.Table), comment(c.Description), c.Apart)
		}
	}
	return b.String()
}

// script writes the change so that it can be repeated.
func (c Change) script() string {
	switch {
	case c.block:
		return "-- +goose StatementBegin\n" + c.SQL + ";\n-- +goose StatementEnd\n"
	case c.held == "" && c.before == "":
		return c.SQL + ";\n"
	case c.held == "":
		return c.before + ";\n" + c.SQL + ";\n"
	}
	var body strings.Builder
	for _, table := range c.unforce {
		// See planOutdated. The end of the script forces it again.
		fmt.Fprintf(&body, "\t\tALTER TABLE %s NO FORCE ROW LEVEL SECURITY;\n", table)
	}
	if c.dated == "" {
		fmt.Fprintf(&body, "\t\t%s;\n", c.SQL)
	} else {
		fmt.Fprintf(&body, "\t\tIF current_setting('server_version_num')::int >= %d THEN\n\t\t\tEXECUTE %s;\n\t\tELSE\n\t\t\t%s;\n\t\tEND IF;\n",
			sqltext.PostgreSQL15, sqltext.Literal(c.SQL), c.dated)
	}
	block := fmt.Sprintf("BEGIN\n\tIF NOT %s THEN\n%s\tEND IF;\nEND", c.held, body.String())
	tag := dollarTag(block)
	return fmt.Sprintf("-- +goose StatementBegin\nDO %s\n%s\n%s;\n-- +goose StatementEnd\n", tag, block, tag)
}

// dollarTag returns a quote for the text, one that is not within it (PostgreSQL documentation, "Dollar-Quoted String
// Constants").
func dollarTag(text string) string {
	tag := "$$"
	for n := 0; strings.Contains(text, tag); n++ {
		tag = fmt.Sprintf("$tenancy%d$", n)
	}
	return tag
}

// comment makes a text fit for the rest of a line.
func comment(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}
