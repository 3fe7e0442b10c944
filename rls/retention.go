package rls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/audit"
	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// Retention says how long records of changes are kept, and how many partitions there are for those to come. Months are those of UTC.
type Retention struct {
	// Keep is how many months before the current one are kept. Zero keeps all.
	Keep int

	// Ahead is how many months after the current one have a partition. Zero means three.
	Ahead int
}

// MaintainAudit makes the next monthly partitions of the table tenancy_audit, and drops those with records older than Keep. Run it about once
// a month, as the owner. Where it was not run, records go to the partition tenancy_audit_default; the next run puts them where
// they belong, and changes of audited tables wait meanwhile. It is one transaction, under the lock of migrations, and waits for other locks as Migrate
// does. The result has what it did; a second run does nothing.
//
// It needs the table that Migrate makes where Audits are named, and of i the Column alone: partitions get the policies of the whole,
// and roles with BYPASSRLS that may read the whole, as BackupRole, may read them. Two runs at once take turns. Errors are those of PostgreSQL, or say that there is no such table, or whose it is.
func (i Isolation) MaintainAudit(ctx context.Context, db *gorm.DB, r Retention) (changes []Change, err error) {
	return i.maintainAudit(ctx, db, r, false)
}

// PlanMaintainAudit returns what MaintainAudit would do, and changes nothing. To see which records the default partition has, it locks that
// partition for a moment, as MaintainAudit does.
func (i Isolation) PlanMaintainAudit(ctx context.Context, db *gorm.DB, r Retention) ([]Change, error) {
	return i.maintainAudit(ctx, db, r, true)
}

// errPlanned rolls a plan back.
var errPlanned = errors.New("only planned")

func (i Isolation) maintainAudit(ctx context.Context, db *gorm.DB, r Retention, dry bool) (changes []Change, err error) {
	if r.Keep < 0 || r.Ahead < 0 {
		return nil, errors.New("tenancy: Retention: months must not be negative")
	}
	if r.Ahead == 0 {
		r.Ahead = 3
	}
	i.Audits, i.Lookups, i.Fills, i.Partition = nil, nil, nil, nil // which are about models
	m, db, err := i.prepare(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	ctx = db.Statement.Context
	err = m.retry(ctx, func() error {
		return await(ctx, func() (got bool, err error) {
			err = db.Transaction(func(tx *gorm.DB) error {
				if got, err = tryLock(ctx, tx.Statement.ConnPool, lockTransaction); !got || err != nil {
					return err
				}
				if err = m.limitWaits(ctx, tx); err == nil {
					changes, err = m.maintain(ctx, tx.Statement.ConnPool, r, dry)
				}
				if err == nil && dry {
					return errPlanned
				}
				return err
			})
			if errors.Is(err, errPlanned) {
				err = nil
			}
			return got, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("tenancy: %w", catalog.Explain(err, m.Column))
	}
	return changes, nil
}

// records is the table of records, as maintain finds it.
type records struct {
	Schema, Type string
	Owner, Role  string // whose the table is, and who asks
	Owns         bool   // whether the role has the owner's rights
	Now          time.Time
	Oldest       *time.Time // in the default partition
	Parts        []string   // their names
	Policies     []recordsPolicy
	Backups      []string // roles that no policy binds and that may read the table, quoted
	Grantees     []string // who default privileges may give rights on a new table, quoted
}

// recordsPolicy is a policy of the table, as CREATE POLICY writes it.
type recordsPolicy struct{ Name, Kind, Command, Roles, Using, Check string }

// maintain does the work in a transaction, or only says what it would do.
func (m migration) maintain(ctx context.Context, conn gorm.ConnPool, r Retention, dry bool) ([]Change, error) {
	found, err := m.records(ctx, conn)
	if err != nil {
		return nil, err
	}
	current := monthOf(found.Now)
	var changes []Change
	do := func(table, description string, statements ...string) error {
		for _, sql := range statements {
			if dry {
				break
			}
			if _, err := conn.ExecContext(ctx, sql); err != nil {
				return fmt.Errorf("%s: %s: %w", table, description, err)
			}
		}
		changes = append(changes, Change{Table: found.Schema + "." + table, Description: description, SQL: strings.Join(statements, ";\n")})
		return nil
	}
	first := current
	if found.Oldest != nil && found.Oldest.Before(current) {
		first = monthOf(*found.Oldest)
	}
	if oldest := current.AddDate(0, -r.Keep, 0); r.Keep > 0 {
		for _, name := range found.Parts {
			if month, err := time.Parse(partFormat, name); err == nil && month.Before(oldest) {
				if err := do(name, "drop the records of "+month.Format("2006-01"), "DROP TABLE "+sqltext.Ident(found.Schema, name)); err != nil {
					return nil, err
				}
			}
		}
		if found.Oldest != nil && found.Oldest.Before(oldest) {
			if err := do(audit.Default, "delete the records before "+oldest.Format("2006-01"), found.unforced(
				fmt.Sprintf("DELETE FROM %s WHERE at < '%s'", sqltext.Ident(found.Schema, audit.Default), oldest.Format(time.RFC3339)))...); err != nil {
				return nil, err
			}
			first = oldest
		}
	}
	for month := first; !month.After(current.AddDate(0, r.Ahead, 0)); month = month.AddDate(0, 1, 0) {
		if name := month.Format(partFormat); !slices.Contains(found.Parts, name) {
			if err := do(name, "make the partition of "+month.Format("2006-01"), found.partition(name, month)...); err != nil {
				return nil, err
			}
		}
	}
	return changes, nil
}

// partFormat makes the name of a partition of its month.
const partFormat = audit.Name + "_2006_01"

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// records looks for the table of records. The default partition is forced on its owner, who must see its records to move them.
func (m migration) records(ctx context.Context, conn gorm.ConnPool) (found records, err error) {
	const query = `SELECT coalesce((SELECT json_build_object('schema', n.nspname, 'type', format_type(a.atttypid, NULL), 'now', now(),
		'owner', pg_get_userbyid(c.relowner), 'role', current_user, 'owns', pg_has_role(c.relowner, 'USAGE'), 'parts', (
			SELECT json_agg(part.relname) FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid WHERE inhparent = c.oid),
		'policies', (
			SELECT json_agg(json_build_object('name', quote_ident(polname), 'kind', CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
				'command', CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
				'roles', (SELECT string_agg(CASE WHEN r = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') FROM unnest(polroles) r),
				'using', coalesce(pg_get_expr(polqual, polrelid), ''), 'check', coalesce(pg_get_expr(polwithcheck, polrelid), '')) ORDER BY polname)
			FROM pg_policy WHERE polrelid = c.oid AND polname <> $3),
		'backups', (
			SELECT json_agg(quote_ident(r.rolname)) FROM aclexplode(c.relacl) e JOIN pg_roles r ON r.oid = e.grantee
			WHERE e.privilege_type = 'SELECT' AND r.rolbypassrls AND r.oid <> c.relowner),
		'grantees', (
			SELECT json_agg(DISTINCT CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(e.grantee)) END)
			FROM pg_default_acl d, aclexplode(d.defaclacl) e
			WHERE d.defaclobjtype = 'r' AND d.defaclrole = c.relowner AND e.grantee <> c.relowner))
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2
		WHERE n.nspname = current_schema() AND c.relname = $1 AND c.relkind = 'p'), '{}')::text`
	if err := catalog.ReadJSON(ctx, conn, &found, query, audit.Name, m.Column, audit.Write); err != nil {
		return found, err
	}
	if found.Schema == "" {
		return found, fmt.Errorf("there is no table %s in the first schema of the search_path: run Migrate with Audits", audit.Name)
	}
	if !found.Owns {
		return found, fmt.Errorf("%s does not own the table %s, and cannot change its partitions: connect as %s",
			sqltext.Ident(found.Role), audit.Name, sqltext.Ident(found.Owner))
	}
	statements := found.unforced("")
	if _, err := conn.ExecContext(ctx, statements[0]); err != nil {
		return found, err
	}
	if err := conn.QueryRowContext(ctx, "SELECT min(at) FROM "+sqltext.Ident(found.Schema, audit.Default)).Scan(&found.Oldest); err != nil {
		return found, err
	}
	_, err = conn.ExecContext(ctx, statements[2])
	return found, err
}

// unforced lets the owner, within the transaction, see the rows of the default partition for a statement.
func (r records) unforced(statement string) []string {
	alter := "ALTER TABLE " + sqltext.Ident(r.Schema, audit.Default)
	return []string{alter + " NO FORCE ROW LEVEL SECURITY", statement, alter + " FORCE ROW LEVEL SECURITY"}
}

// partition makes a partition, with the records of its month that the default partition has, and the policies of the whole.
func (r records) partition(name string, month time.Time) []string {
	whole, part, rest := sqltext.Ident(r.Schema, audit.Name), sqltext.Ident(r.Schema, name), sqltext.Ident(r.Schema, audit.Default)
	from, to := month.Format(time.RFC3339), month.AddDate(0, 1, 0).Format(time.RFC3339)
	steps := []string{fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING INDEXES)", part, whole)}
	if len(r.Grantees) > 0 {
		steps = append(steps, fmt.Sprintf("REVOKE ALL ON TABLE %s FROM %s", part, strings.Join(r.Grantees, ", ")))
	}
	if len(r.Backups) > 0 { // pg_dump reads each partition by its own name
		steps = append(steps, fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s", part, strings.Join(r.Backups, ", ")))
	}
	steps = append(steps, r.unforced(fmt.Sprintf("WITH moved AS (DELETE FROM %s WHERE at >= '%s' AND at < '%s' RETURNING *) INSERT INTO %s SELECT * FROM moved",
		rest, from, to, part))...)
	for _, p := range r.Policies {
		steps = append(steps, p.create(part))
	}
	return append(steps,
		"ALTER TABLE "+part+" ENABLE ROW LEVEL SECURITY", "ALTER TABLE "+part+" FORCE ROW LEVEL SECURITY",
		fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", whole, part, from, to))
}

func (p recordsPolicy) create(table string) string {
	sql := fmt.Sprintf("CREATE POLICY %s ON %s AS %s FOR %s TO %s", p.Name, table, p.Kind, p.Command, p.Roles)
	if p.Using != "" {
		sql += " USING (" + p.Using + ")"
	}
	if p.Check != "" {
		sql += " WITH CHECK (" + p.Check + ")"
	}
	return sql
}
