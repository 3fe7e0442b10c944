// Package statement_test compares what GORM does with the plugin, in a database of two tenants, with what it does without, in a
// database that holds the rows of one of them and nothing else: results, affected rows, errors, and the rows afterwards.
package statement_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

const (
	acme   = testdb.Acme
	globex = testdb.Globex
)

var as = testdb.As

type Company struct {
	ID       int64
	TenantID string
	Name     string
}

type Author struct {
	ID        int64
	TenantID  string
	Name      string
	Age       int
	CompanyID *int64
	Company   *Company
	Profile   *Profile
	Books     []Book
	Tags      []Tag `gorm:"many2many:author_tags"`
}

type Profile struct {
	ID       int64
	TenantID string
	AuthorID int64
	Bio      string
}

type Book struct {
	ID        int64
	TenantID  string
	Title     string
	AuthorID  int64
	Author    *Author
	DeletedAt gorm.DeletedAt
}

type Tag struct {
	ID       int64
	TenantID string
	Label    string
}

// Doc has its tenant in the primary key.
type Doc struct {
	TenantID string `gorm:"primaryKey"`
	ID       int64  `gorm:"primaryKey;autoIncrement:false"`
	Title    string
	Pages    []Page `gorm:"foreignKey:TenantID,DocID;references:TenantID,ID"`
}

type Page struct {
	ID       int64
	TenantID string
	DocID    int64
	Text     string
}

// Country belongs to all tenants.
type Country struct {
	ID   int64
	Name string
}

var (
	models = []any{&Company{}, &Author{}, &Profile{}, &Book{}, &Tag{}, &Doc{}, &Page{}, &Country{}}
	// partitionedModels are those of tenants.
	partitionedModels = models[:len(models)-1]

	tenantTables = []string{"companies", "authors", "profiles", "books", "tags", "docs", "pages"}
	serials      = []string{"companies", "authors", "profiles", "books", "tags", "pages", "countries"}
)

// rows are a tenant's rows, with ids from base.
func rows(tenant string, base int) []string {
	fill := func(sql string) string {
		sql = strings.ReplaceAll(sql, "TENANT", tenant)
		for i := range 5 {
			sql = strings.ReplaceAll(sql, fmt.Sprintf("#%d", i), fmt.Sprint(base+i))
		}
		return sql
	}
	return []string{
		fill(`INSERT INTO companies (id, tenant_id, name) VALUES (#1, 'TENANT', 'A'), (#2, 'TENANT', 'B')`),
		fill(`INSERT INTO authors (id, tenant_id, name, age, company_id) VALUES
			(#1, 'TENANT', 'Ann', 30, #1), (#2, 'TENANT', 'Bob', 40, #2), (#3, 'TENANT', 'Cid', 50, NULL), (#4, 'TENANT', 'Dora', 40, #1)`),
		fill(`INSERT INTO profiles (id, tenant_id, author_id, bio) VALUES (#1, 'TENANT', #1, 'bio of Ann')`),
		fill(`INSERT INTO books (id, tenant_id, title, author_id, deleted_at) VALUES
			(#1, 'TENANT', 'one', #1, NULL), (#2, 'TENANT', 'two', #1, NULL), (#3, 'TENANT', 'gone', #1, '2024-01-01'), (#4, 'TENANT', 'four', #2, NULL)`),
		fill(`INSERT INTO tags (id, tenant_id, label) VALUES (#1, 'TENANT', 'red'), (#2, 'TENANT', 'blue')`),
		fill(`INSERT INTO docs (id, tenant_id, title) VALUES (1, 'TENANT', 'first'), (2, 'TENANT', 'second')`),
		fill(`INSERT INTO pages (id, tenant_id, doc_id, text) VALUES (#1, 'TENANT', 1, 'a'), (#2, 'TENANT', 1, 'b'), (#3, 'TENANT', 2, 'c')`),
	}
}

// side is a database with a client.
type side struct {
	name   string
	db     *gorm.DB // of acme
	super  *pgx.Conn
	shared bool // it holds globex's rows, too, and author_tags has a tenant column
	base   int  // of the ids of globex
	parted bool // tables have partitions, which take longer to truncate than to delete from
	log    *sqlLog
}

// sqlLog keeps the SQL that GORM has sent.
type sqlLog struct {
	logger.Interface
	sent []string
}

func (l *sqlLog) LogMode(logger.LogLevel) logger.Interface { return l }

func (l *sqlLog) Trace(_ context.Context, _ time.Time, fc func() (string, int64), _ error) {
	sql, _ := fc()
	l.sent = append(l.sent, sql)
}

var noon = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// usual are the options of both sides.
func usual(log logger.Interface) testdb.Option {
	return testdb.GORM(func(c *gorm.Config) {
		c.Logger, c.NowFunc, c.DisableForeignKeyConstraintWhenMigrating = log, func() time.Time { return noon }, true
	})
}

// newDatabase has no foreign keys, as the plain side has none.
func newDatabase(t *testing.T, models ...any) *testdb.Database {
	t.Helper()
	return withoutForeignKeys(t, testdb.New(t), models...)
}

func withoutForeignKeys(t *testing.T, d *testdb.Database, models ...any) *testdb.Database {
	t.Helper()
	d.OwnerDB = testdb.OpenPlain(t, d.Owner.DSN, usual(logger.Discard))
	d.Migrate(t, d.Isolation(), models...)
	return d
}

// connectSuper keeps a session of the superuser open for the test.
func connectSuper(t *testing.T, d *testdb.Database) *pgx.Conn {
	t.Helper()
	return connect(t, d.SuperuserDSN(t))
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// newPlain is GORM without the plugin.
func newPlain(t *testing.T) *side {
	t.Helper()
	d := testdb.New(t)
	s := &side{name: "plain", super: connectSuper(t, d), log: &sqlLog{Interface: logger.Discard}}
	s.db = testdb.OpenPlain(t, d.Owner.DSN, usual(s.log))
	require.NoError(t, s.db.AutoMigrate(models...))
	require.NoError(t, s.db.Callback().Create().Before("gorm:create").Register("fill", func(db *gorm.DB) {
		if db.Statement.Schema != nil && db.Statement.Schema.LookUpField("tenant_id") != nil {
			db.Statement.SetColumn("TenantID", acme, true)
		}
	}))
	return s
}

// newGuarded is GORM with the plugin.
func newGuarded(t *testing.T, name string, cfg tenancy.Config, alter ...string) *side {
	t.Helper()
	return guardedOf(t, newDatabase(t, models...), name, cfg, alter...)
}

func guardedOf(t *testing.T, d *testdb.Database, name string, cfg tenancy.Config, alter ...string) *side {
	t.Helper()
	s := &side{name: name, super: connectSuper(t, d), shared: true, base: 100, log: &sqlLog{Interface: logger.Discard}}
	for _, sql := range append(alter, "GRANT SELECT, INSERT, UPDATE, DELETE ON countries TO "+d.App.Role) {
		_, err := s.super.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	s.db = d.Open(t, cfg, usual(s.log)).WithContext(as(acme))
	return s
}

// reset puts the rows back that every operation begins with.
func (s *side) reset(t *testing.T) {
	t.Helper()
	statements := []string{"TRUNCATE companies, authors, profiles, books, tags, docs, pages, countries, author_tags RESTART IDENTITY"}
	if s.parted {
		statements = []string{"TRUNCATE countries, author_tags"}
		for _, table := range tenantTables {
			statements = append(statements, "DELETE FROM "+table)
		}
	}
	statements = append(statements, rows(acme, 0)...)
	statements = append(statements, `INSERT INTO countries (id, name) VALUES (1, 'Chile'), (2, 'Denmark')`)
	tagged := `INSERT INTO author_tags (author_id, tag_id) VALUES (1, 1), (1, 2), (2, 2)`
	if s.shared {
		statements = append(statements, rows(globex, s.base)...)
		tagged = fmt.Sprintf(`INSERT INTO author_tags (author_id, tag_id, tenant_id) VALUES
			(1, 1, 'acme'), (1, 2, 'acme'), (2, 2, 'acme'), (%[1]d, %[1]d, 'globex')`, s.base+1)
	}
	statements = append(statements, tagged)
	for _, table := range serials {
		statements = append(statements, fmt.Sprintf(`SELECT setval(pg_get_serial_sequence('%s', 'id'), 500)`, table))
	}
	for _, sql := range statements {
		_, err := s.super.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	s.log.sent = nil
}

// dump returns a tenant's rows.
func (s *side) dump(t *testing.T, tenant string) string {
	t.Helper()
	var all strings.Builder
	for _, table := range append([]string{"author_tags", "countries"}, tenantTables...) {
		where := ""
		if table != "countries" && (s.shared || table != "author_tags") {
			where = " WHERE tenant_id = '" + tenant + "'"
		}
		var rows string
		require.NoError(t, s.super.QueryRow(t.Context(), fmt.Sprintf(
			`SELECT coalesce(string_agg(row::text, E'\n' ORDER BY row::text), '')
			 FROM (SELECT to_jsonb(t) - 'tenant_id' AS row FROM %s t%s) r`, table, where)).Scan(&rows))
		fmt.Fprintf(&all, "%s\n%s\n", table, rows)
	}
	return all.String()
}

// outcome is what an operation has done.
type outcome struct {
	Result   string
	Affected int64
	Err      string
	Rows     string
}

func (s *side) run(t *testing.T, op func(db *gorm.DB) (any, *gorm.DB)) outcome {
	t.Helper()
	s.reset(t)
	result, tx := op(s.db)
	o := outcome{Rows: s.dump(t, acme)}
	if tx != nil {
		o.Affected = tx.RowsAffected
		if tx.Error != nil {
			o.Err = tx.Error.Error()
		}
	}
	encoded, err := json.Marshal(result)
	require.NoError(t, err)
	o.Result = string(encoded)
	return o
}

// Shared has the column and belongs to all.
type Shared struct {
	ID       int64
	TenantID string
}

func (Shared) TenantShared()     {}
func (Shared) TableName() string { return "countries" }

func ignore(context.Context, tenancy.BypassEvent) {}
