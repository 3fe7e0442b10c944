package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// partitioned is the suffix of the names of variants on tables with partitions.
const partitioned = ", partitions"

// partitionSubjects are all variants on both databases.
func partitionSubjects(whole, parts *skewDatabase) (subjects []skewSubject) {
	for _, v := range skewVariants {
		v.whereJoined = v.where
		subjects = append(subjects, skewSubject{v, whole})
		v.Name += partitioned
		subjects = append(subjects, skewSubject{v, parts})
	}
	return subjects
}

// partitionResults are what measurePartitions has found.
type partitionResults struct {
	Quick   bool
	Machine machine
	Rows    int // of each table
	Tenants []skewTenant
	Count   int // of tenants
	Hash    int // partitions of each table
	Cells   []skewCell
	Plans   []planCell
	Firsts  []firstCell
}

// planCell is what PostgreSQL says that a query of a tenant took to plan and to execute, in one variant.
type planCell struct {
	Query, Tenant, Variant string
	Planning, Execution    float64 // medians, in microseconds
}

// firstCell is what a statement takes on a connection that has just been made.
type firstCell struct {
	Statement, Variant string
	Custom             bool              // under plan_cache_mode=force_custom_plan
	Nth                [sampleOf]float64 // medians of its executions, the first one first, in microseconds
	CPU                *float64          // median of the server's time on a processor for the first one; nil where it is out of reach
}

// sampleOf is how many executions are looked at: PostgreSQL considers a generic plan at the sixth.
const sampleOf = 6

// measurePartitions measures tenants of very different sizes in tables with partitions by the hash of the tenant, beside the same rows in
// tables without, and writes its section of the report.
func measurePartitions(ctx context.Context, s settings) (err error) {
	began := loadAverage()
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	b := &bench{settings: s, server: server, rng: rand.New(rand.NewPCG(1, 2))}
	rows, tenants, hash := 2_500_000, 100_000, 64 // of each of the two tables
	if s.quick {
		rows, tenants, hash = 20_000, 1_000, 8
	}
	if room, err := b.room(ctx); err == nil && room < int64(2*rows)*skewBytesPerRow {
		return fmt.Errorf("the server's disk has %d MB of room for the tables, which need %d", room>>20, (int64(2*rows)*skewBytesPerRow)>>20)
	}
	var databases [2]*skewDatabase
	for n, partitions := range []int{0, hash} {
		if databases[n], err = b.keyedByTenant(ctx, rows, tenants, partitions); err != nil {
			return fmt.Errorf("fill the tables: %w", err)
		}
	}
	r := &partitionResults{Quick: s.quick, Machine: b.machine(began), Rows: rows, Count: tenants, Hash: hash, Tenants: databases[0].tenants}
	subjects := partitionSubjects(databases[0], databases[1])
	n := network{name: loopback, full: 5 * time.Second, quick: 50 * time.Millisecond}
	for _, q := range skewQueries {
		fmt.Fprintf(os.Stderr, "bench:        partitions: %s\n", q.name)
		cells, err := b.skewCells(ctx, q, n, subjects)
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		r.Cells = append(r.Cells, cells...)
		if q.custom {
			continue // EXPLAIN makes a plan for the values in any case
		}
		plans, err := b.plans(ctx, q, n, subjects)
		if err != nil {
			return fmt.Errorf("%s: %w", q.name, err)
		}
		r.Plans = append(r.Plans, plans...)
	}
	for _, custom := range []bool{false, true} {
		fmt.Fprintf(os.Stderr, "bench:        partitions: first statements, custom plans %t\n", custom)
		firsts, err := b.firsts(ctx, custom, n, subjects)
		if err != nil {
			return err
		}
		r.Firsts = append(r.Firsts, firsts...)
	}
	return r.write(s.out)
}

// plans has PostgreSQL explain a query for all tenants, in turns.
func (b *bench) plans(ctx context.Context, q skewQuery, n network, subjects []skewSubject) (cells []planCell, err error) {
	var ends closer
	defer ends.close(&err)
	explained := make([]*explainer, len(subjects))
	for i, s := range subjects {
		c, err := s.database.open(s.variant, q.custom, n, &ends)
		if err != nil {
			return nil, err
		}
		ends.add(c.close)
		if explained[i], err = newExplainer(c); err != nil {
			return nil, err
		}
	}
	for _, tenant := range subjects[0].database.tenants {
		turns := &skewTurns{}
		for i, e := range explained {
			run, err := e.explain(e.client.as(ctx, tenant.id), q, tenant)
			if err != nil {
				return nil, err
			}
			turns.variants = append(turns.variants, subjects[i].variant)
			turns.runs = append(turns.runs, run)
		}
		for range 2 { // the process has seen the tables then, and EXPLAIN keeps no plan
			if err := turns.warm(); err != nil {
				return nil, err
			}
		}
		for _, e := range explained {
			e.planning, e.execution = nil, nil
		}
		if err := b.takeSkewTurns(ctx, n.budget(b.quick)/5, turns); err != nil {
			return nil, err
		}
		for i, e := range explained {
			cells = append(cells, planCell{q.name, tenant.Name, subjects[i].Name, median(e.planning), median(e.execution)})
		}
	}
	return cells, nil
}

// firstStatements are sent on connections that have just been made. Each reads or writes rows of one tenant.
var firstStatements = []struct {
	name string
	run  func(s *session, db *gorm.DB, t skewTenant) error
}{
	{"Newest 20", func(s *session, db *gorm.DB, _ skewTenant) error {
		if s.where {
			db = db.Where("notes.tenant_id = ?", s.tenant)
		}
		return newest[Note](db, "notes")
	}},
	{"Newest 20, Joins", func(s *session, db *gorm.DB, t skewTenant) error {
		if s.where {
			db = db.Where("comments.tenant_id = ?", s.tenant).Where(`"Note".tenant_id = ?`, s.tenant)
		}
		return joined(db, t)
	}},
	{"Create of a note", func(s *session, db *gorm.DB, _ skewTenant) error {
		return db.Create(&Note{TenantID: s.owner(), Kind: "new"}).Error
	}},
	{"Create of a comment", func(s *session, db *gorm.DB, t skewTenant) error { // whose foreign key is verified
		return db.Create(&Comment{TenantID: s.owner(), NoteID: t.note, Body: "new"}).Error
	}},
}

// firsts measures statements on new connections. A SELECT 1 makes the connection, and the plugin's tables are proved, so that what is
// timed is what PostgreSQL does for a table that its process has not seen yet.
func (b *bench) firsts(ctx context.Context, custom bool, n network, subjects []skewSubject) (cells []firstCell, err error) {
	var ends closer
	defer ends.close(&err)
	clients := make([]*client, len(subjects))
	for i, s := range subjects {
		if clients[i], err = s.database.open(s.variant, custom, n, &ends); err != nil {
			return nil, err
		}
		ends.add(clients[i].close)
	}
	rounds := 25
	if b.quick {
		rounds = 3
	}
	if b.samples > 0 {
		rounds = b.samples
	}
	tenant := subjects[0].database.tenants[1]
	for _, statement := range firstStatements {
		took, cpu := make([][sampleOf][]float64, len(clients)), make([][]float64, len(clients))
		for round := range 1 + rounds { // the first one proves the tables
			for _, i := range b.rng.Perm(len(clients)) {
				s := clients[i].as(ctx, tenant.id)
				process, err := s.reconnect(subjects[i].database)
				if err != nil {
					return nil, err
				}
				for nth := range sampleOf {
					ran, _ := process.time()
					began := time.Now()
					if err := s.do(false, func(db *gorm.DB) error { return statement.run(s, db, tenant) }); err != nil {
						return nil, fmt.Errorf("%s: %w", statement.name, err)
					}
					if round > 0 {
						took[i][nth] = append(took[i][nth], float64(time.Since(began))/float64(time.Microsecond))
					}
					if since, known := process.time(); known && round > 0 && nth == 0 {
						cpu[i] = append(cpu[i], float64(since-ran)/float64(time.Microsecond))
					}
				}
			}
		}
		for i := range clients {
			c := firstCell{Statement: statement.name, Variant: subjects[i].Name, Custom: custom}
			for nth := range sampleOf {
				c.Nth[nth] = median(took[i][nth])
			}
			if len(cpu[i]) > 0 {
				m := median(cpu[i])
				c.CPU = &m
			}
			cells = append(cells, c)
		}
	}
	return cells, nil
}

// reconnect closes the client's connection, and makes another one. It returns the server's process.
func (s *session) reconnect(d *skewDatabase) (*backend, error) {
	before := s.pool.Stats().MaxIdleClosed
	s.pool.SetMaxIdleConns(-1)
	s.pool.SetMaxIdleConns(1)
	if s.pool.Stats().MaxIdleClosed == before {
		return nil, errors.New("no connection was closed")
	}
	var one int
	if err := s.do(false, func(db *gorm.DB) error { return db.Raw("SELECT 1").Scan(&one).Error }); err != nil {
		return nil, err
	}
	conn, err := s.pool.Conn(s.ctx)
	if err != nil {
		return nil, err
	}
	var pid uint32
	err = conn.Raw(func(dc any) error {
		std, ok := dc.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("%T is no connection of pgx", dc)
		}
		pid = std.Conn().PgConn().PID()
		return nil
	})
	return newBackend(pid, &database{Database: d.inner}), errors.Join(err, conn.Close())
}

// write writes the section, and its plot.
func (r *partitionResults) write(dir string) error {
	svg, err := render(skewPlot("Partitions by the hash of the tenant: median, loopback", r.Cells,
		"policy alone"+partitioned, "policy alone", "tenancy"+partitioned, "tenancy"), skewHeight)
	if err != nil {
		return err
	}
	return writeSection(dir, "partitions", r.String(), svg)
}

// String is the section of the report.
func (r *partitionResults) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Partitions\n\n%s rows of %s tenants, half of them notes and half comments, in tables with primary keys `(tenant_id, id)`: once without partitions, and\n"+
		"once in %d partitions by the hash of the tenant, as `rls.Isolation{TenantKeys: true, Partition: …}` makes them. The tenants, queries and variants\n"+
		"are those of the section before; with Joins plain GORM names the tenant of both tables. `go run ./tests/tools/bench -only partitions` measures this section alone.\n\n",
		number(float64(2*r.Rows)), number(float64(r.Count)), r.Hash)
	b.WriteString(r.Machine.paragraph(r.Quick))
	b.WriteString("\n![Partitions](benchmark/partitions.svg)\n\n" + r.timeTable() + "\n\n")
	b.WriteString("### Planning and execution\n\nMedians of what `EXPLAIN (ANALYZE, TIMING OFF)` says of the same statements with their values, on a connection that has seen the tables:\n\n" +
		r.planTable() + "\n\n")
	b.WriteString("### The first statement of a connection\n\nA connection is made by a `SELECT 1`; then comes the same statement six times, of the tenant *" + r.Tenants[1].Name + "*. " +
		"The first time PostgreSQL's process reads the\ncatalog for each table and partition that the statement opens. At the sixth it considers a plan without values, for which it opens all\n" +
		"partitions, unless `plan_cache_mode` is `force_custom_plan`. The target is a ratio of at most 2 with the condition. The server's\ntime on a processor depends less on what else the machine does.\n\n" + r.firstTable())
	return b.String()
}

func (r *partitionResults) timeTable() string {
	t := newTable("query", "tenant")
	for _, v := range skewVariants {
		t.column(v.Name)
		t.column(v.Name + partitioned)
		t.column("ratio")
	}
	query := ""
	for i := range r.Cells {
		c := &r.Cells[i]
		name := c.Query
		if name == query {
			name = ""
		}
		query = c.Query
		row := []string{name, c.Tenant}
		for _, v := range skewVariants {
			whole, parts := c.of(v.Name).Median, c.of(v.Name+partitioned).Median
			row = append(row, milliseconds(whole), milliseconds(parts), times(parts/whole))
		}
		t.row(row...)
	}
	return t.String()
}

func (r *partitionResults) planTable() string {
	t := newTable("query", "tenant")
	guarded := skewVariants[1:] // plain GORM's plans are those of the condition
	for _, v := range guarded {
		t.column(v.Name + ": planning")
		t.column(partitioned[2:])
		t.column("execution")
		t.column(partitioned[2:])
	}
	of := map[string]planCell{}
	for _, c := range r.Plans {
		of[c.Query+c.Tenant+c.Variant] = c
	}
	for _, q := range skewQueries {
		if q.custom {
			continue
		}
		for n, tenant := range r.Tenants {
			row := []string{q.name, tenant.Name}
			if n > 0 {
				row[0] = ""
			}
			for _, v := range guarded {
				whole, parts := of[q.name+tenant.Name+v.Name], of[q.name+tenant.Name+v.Name+partitioned]
				row = append(row, milliseconds(whole.Planning), milliseconds(parts.Planning), milliseconds(whole.Execution), milliseconds(parts.Execution))
			}
			t.row(row...)
		}
	}
	return t.String()
}

func (r *partitionResults) firstTable() string {
	t := newTable("statement", "variant", "plans", "first", partitioned[2:], "ratio", "server CPU of the first", partitioned[2:], "ratio", "second", partitioned[2:], "sixth", partitioned[2:])
	for _, whole := range r.Firsts {
		for _, parts := range r.Firsts {
			if parts.Statement != whole.Statement || parts.Custom != whole.Custom || parts.Variant != whole.Variant+partitioned {
				continue
			}
			plans := "default"
			if whole.Custom {
				plans = "custom"
			}
			cpu := []string{"–", "–", "–"}
			if whole.CPU != nil && parts.CPU != nil {
				cpu = []string{milliseconds(*whole.CPU), milliseconds(*parts.CPU), times(*parts.CPU / *whole.CPU)}
			}
			t.row(whole.Statement, whole.Variant, plans, milliseconds(whole.Nth[0]), milliseconds(parts.Nth[0]), times(parts.Nth[0]/whole.Nth[0]), cpu[0], cpu[1], cpu[2],
				milliseconds(whole.Nth[1]), milliseconds(parts.Nth[1]), milliseconds(whole.Nth[5]), milliseconds(parts.Nth[5]))
		}
	}
	return t.String()
}
