// Package lint reads migrations, and reports what they do to the isolation of tenants. It replays them in order, so that it knows at each
// statement which tables are tenant tables, and whether PostgreSQL hides their rows from the owner. It connects to no database.
package lint

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Options say what the migrations are for.
type Options struct {
	Column  string // the tenant column
	Setting string // the setting that holds the current tenant
	// The roles, empty for none. Policies for roles with a purpose may show all rows.
	AppRole, AdminRole, ReadOnlyRole, LookupRole string
	// MigrateMakesPolicies says that rls.Isolation.Migrate makes the policies, so that they are not in the migrations.
	MigrateMakesPolicies bool
	// TenantTables are tables that Migrate gives the tenant column, so that the migrations do not have it. Tables that refer to one by a
	// foreign key get it too. Names without a schema are in public.
	TenantTables []string
}

// Position is a line of a file, which counts from 1.
type Position struct {
	File string `json:"file"`
	Line int    `json:"line"`
}

// Finding is what a statement does to the isolation of tenants.
type Finding struct {
	Position
	Code    string `json:"code"`
	Object  string `json:"object"` // the table, role, view or function
	Problem string `json:"problem"`
	Reason  string `json:"reason,omitempty"` // why it is ignored, as a comment says
}

// NotChecked is what could not be read.
type NotChecked struct {
	Position
	Why string `json:"why"`
}

// Report is what was found, in the order in which migrations run.
type Report struct {
	Files      int          `json:"files"`
	Tables     int          `json:"tables"` // tenant tables, at the end
	Findings   []Finding    `json:"findings"`
	Ignored    []Finding    `json:"ignored"`
	NotChecked []NotChecked `json:"not_checked"`
}

// linter replays migrations.
type linter struct {
	database
	report  Report
	script  *script
	section string // up or down of the script
	reaches string // the role that statements run as: empty for the owner, or the role that SET ROLE names
	local   bool   // until the end of the transaction
	open    bool   // row_security is off: what would hide rows is an error
	block   bool   // after BEGIN

	replication *mark // session_replication_role was set here
}

// Run reads the migrations of a folder. It is an error if there are none.
func Run(dir string, o Options) (Report, error) {
	scripts, notChecked, err := readDir(dir)
	if err != nil {
		return Report{}, err
	}
	if len(scripts)+len(notChecked) == 0 {
		return Report{}, fmt.Errorf("%w: there are no migrations in %s", os.ErrNotExist, dir)
	}
	l := linter{
		database: database{options: o, tables: map[string]*table{}, views: map[string][]string{}},
		report:   Report{Files: len(scripts), Findings: []Finding{}, Ignored: []Finding{}, NotChecked: append([]NotChecked{}, notChecked...)},
	}
	l.name(o.TenantTables)
	for i := range scripts {
		l.file(&scripts[i])
	}
	l.atEnd()
	slices.SortStableFunc(l.report.Findings, func(a, b Finding) int {
		return cmp.Or(byVersion(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return l.report, nil
}

// file reads a file: what it does, and only for statements that touch rows, how it is undone.
func (l *linter) file(s *script) {
	l.script = s
	l.reaches, l.local, l.open, l.block = "", false, false, false
	l.section = s.up
	statements, failed := parse(s.up)
	for _, stmt := range statements {
		l.statement(stmt)
	}
	l.endOfFile()
	l.reaches, l.local, l.open, l.block = "", false, false, false
	l.unread(failed)
	l.section = s.down
	undo, failed := parse(s.down)
	for _, stmt := range undo {
		l.session(stmt)
		l.data(stmt)
	}
	l.unread(failed)
}

// unread reports the statements at offsets that cannot be read.
func (l *linter) unread(failed []int) {
	for _, at := range failed {
		stmt := statement{at: at, from: commentBefore(l.section, at), to: at}
		l.find(l.at(stmt), NotRead, l.script.file,
			"this is no SQL that PostgreSQL's parser can read: a command of psql, a template, or a mistake. It is not checked")
	}
}

var ignore = regexp.MustCompile(`(?m)--\s*tenancy:ignore\s+([a-z-]+)[ \t]*(.*)$`)

// find reports what a statement does, unless a comment before it, or on its last line, says that it is meant, and why.
func (l *linter) find(at mark, code, object, format string, args ...any) {
	f := Finding{
		Position: Position{at.script.file, lineAt(at.script.text, at.stmt.at)},
		Code:     code, Object: strings.TrimPrefix(object, "public."), Problem: fmt.Sprintf(format, args...),
	}
	for _, m := range ignore.FindAllStringSubmatch(at.comments(), -1) {
		if m[1] != code {
			continue
		}
		if f.Reason = strings.TrimSpace(m[2]); f.Reason != "" {
			l.report.Ignored = append(l.report.Ignored, f)
			return
		}
		f.Problem += ". The comment that ignores it needs a reason"
	}
	l.report.Findings = append(l.report.Findings, f)
}

// comments is the text in which a statement's comments are: from the end of the one before to the end of its own last line. What is on the
// last line of the one before is about that one.
func (m mark) comments() string {
	from, end := m.stmt.from, m.stmt.to
	if i := strings.IndexByte(m.section[end:], '\n'); i >= 0 {
		end += i
	} else {
		end = len(m.section)
	}
	if i := strings.IndexByte(m.section[from:m.stmt.at], '\n'); from > 0 && m.section[from-1] != '\n' && i >= 0 {
		from += i
	}
	return m.section[from:end]
}

// commentBefore returns where the lines of comments before an offset begin.
func commentBefore(text string, at int) int {
	from := strings.LastIndexByte(text[:at], '\n') + 1
	for from > 0 {
		before := strings.LastIndexByte(text[:from-1], '\n') + 1
		if !strings.HasPrefix(strings.TrimSpace(text[before:from]), "--") {
			break
		}
		from = before
	}
	return from
}

func (l *linter) at(stmt statement) mark { return mark{l.script, l.section, stmt} }
