package model

import (
	"flag"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// notes are what a tenant has: the values by their bodies.
type notes map[string]int

// transaction is one under way, and what its tenant sees in it.
type transaction struct {
	tenant     string
	tx         *gorm.DB
	cancel     func()
	state      notes
	things     things
	kept       kept
	savepoints []savepoint
	aborted    bool // by an error: only a savepoint helps
	used       bool // statements were sent in it
	over       bool // ended behind database/sql's back, cancelled, or its connection was cut: nothing helps
	cancelled  bool // it has no connection any more
	inserted   bool // so that lastval is defined
}

// kept is what a session keeps whatever becomes of the transaction in which it was made.
type kept struct{ locks, prepared int }

type savepoint struct {
	name   string
	state  notes
	things things
}

// machine is an application and the model of what it may see. It is driven from one goroutine: whatever happens in a run
// follows from its seed.
type machine struct {
	*fixture
	way
	db        *gorm.DB
	pool      *poolOf
	committed map[string]notes // by tenant
	open      map[string]*transaction
	steps     int
	names     int
}

// TestModel runs 10,000 steps.
func TestModel(t *testing.T) {
	const want = 10_000
	f := newFixture(t)
	given := flag.Lookup("rapid.seed").Value.String() != "0"
	steps := 0
	for seed := *walks; steps < want && !t.Failed(); seed++ {
		if *walks != 0 && !given {
			set("rapid.seed", seed)
		}
		rapid.Check(t, func(t *rapid.T) { steps += f.run(t) })
	}
	t.Logf("%d steps", steps)
}

// run is one run of the machine, from an empty table and with a new pool.
func (f *fixture) run(t *rapid.T) int {
	_, err := f.admin.Exec(`DELETE FROM notes`)
	require.NoError(t, err)
	way := way{
		mode:    rapid.SampledFrom(testdb.Modes).Draw(t, "mode"),
		prepare: rapid.Bool().Draw(t, "PrepareStmt"),
	}
	m := &machine{fixture: f, way: way, committed: map[string]notes{}, open: map[string]*transaction{}}
	var inner = new(poolOf)
	m.db, inner.DB = f.open(t, way)
	m.pool = inner
	for _, tenant := range tenants {
		m.committed[tenant] = notes{}
	}
	defer func() {
		for _, x := range m.open {
			x.tx.Rollback()
			x.cancel()
		}
		testdb.Close(t, m.db)
	}()
	t.Repeat(m.actions())
	return m.steps
}

// tenantsIdle are those without a transaction. Only they are written from outside: nothing waits for a lock here.
func (m *machine) tenantsIdle() []string {
	return slices.DeleteFunc(slices.Clone(tenants), func(tenant string) bool { return m.open[tenant] != nil })
}

// free is the number of connections that are free.
func (m *machine) free() int {
	free := connections
	for _, x := range m.open {
		if !x.cancelled {
			free--
		}
	}
	return free
}

// sees is what somebody sees: a tenant, in its transaction or outside.
func (m *machine) sees(s session) notes {
	if s.in != nil {
		return s.in.state
	}
	return m.committed[s.tenant]
}

// session is a tenant's client.
type session struct {
	tenant string
	db     *gorm.DB
	in     *transaction // or nil
	held   bool         // on a connection that is held

	things  *things // that it has made in its session
	session *kept
}

// outside is a tenant's client outside of a transaction.
func (m *machine) outside(tenant string) session {
	return session{tenant: tenant, db: m.db.WithContext(as(tenant)), things: &things{}, session: &kept{}}
}

// inside is a tenant's client in its transaction.
func inside(x *transaction) session {
	x.used = true
	return x.client()
}

func (x *transaction) client() session {
	return session{tenant: x.tenant, db: x.tx.Session(&gorm.Session{NewDB: true}), in: x, things: &x.things, session: &x.kept}
}

// writer draws a client that may write: the tenant's transaction, if there is one. Where something hides the table, a
// statement that was prepared before would write there, and no other.
func (m *machine) writer(t *rapid.T) session {
	tenant := rapid.SampledFrom(slices.DeleteFunc(slices.Clone(tenants), func(tenant string) bool {
		return m.open[tenant] != nil && m.open[tenant].things.shadow != nil
	})).Draw(t, "tenant")
	if x := m.open[tenant]; x != nil {
		return inside(x)
	}
	return m.outside(tenant)
}

// reader draws any client.
func (m *machine) reader(t *rapid.T) session {
	tenant := rapid.SampledFrom(tenants).Draw(t, "tenant")
	if x := m.open[tenant]; x != nil && rapid.Bool().Draw(t, "inside") {
		return inside(x)
	}
	return m.outside(tenant)
}

// failed notes that a statement has failed, which aborts a transaction.
func (s session) failed() {
	if s.in != nil {
		s.in.aborted = true
	}
}

// change applies what a statement has written.
func (m *machine) change(s session, body string, value int) {
	m.sees(s)[body] = value
}

// close forgets a transaction, and what it has written counts or does not.
func (m *machine) close(x *transaction, committed bool) {
	x.cancel()
	delete(m.open, x.tenant)
	if committed {
		m.committed[x.tenant] = x.state
	}
}
