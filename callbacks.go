package tenancy

import (
	"cmp"
	"database/sql"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/guard"
)

// What happens around each of GORM's six kinds of statement. UPDATE and DELETE get no WHERE from us, nor does SELECT:
// PostgreSQL's policy adds it, and can't forget.

func (p *Plugin) create(c *chain) func(*gorm.DB) {
	return func(db *gorm.DB) {
		s, err := p.enter(db, "create")
		if err == nil {
			err = s.fill()
		}
		s.mayBeAlone(db, c)
		refuse(db, "create", err)
	}
}

// checkCreate looks again, after hooks and belongs-to associations, which set columns as well.
func (p *Plugin) checkCreate(db *gorm.DB) {
	if s, ok := p.entered(db, "create"); ok {
		refuse(db, "create", cmp.Or(s.checkContext(), s.fill()))
	}
}

func (p *Plugin) query(db *gorm.DB) {
	_, err := p.enter(db, "query")
	refuse(db, "query", err)
}

func (p *Plugin) update(c *chain) func(*gorm.DB) {
	return func(db *gorm.DB) {
		s, err := p.enter(db, "update")
		if err == nil {
			err = s.checkAssignments()
		}
		s.mayBeAlone(db, c)
		refuse(db, "update", err)
	}
}

func (p *Plugin) checkUpdate(db *gorm.DB) {
	if s, ok := p.entered(db, "update"); ok {
		refuse(db, "update", cmp.Or(s.checkContext(), s.checkAssignments()))
	}
}

func (p *Plugin) delete(c *chain) func(*gorm.DB) {
	return func(db *gorm.DB) {
		s, err := p.enter(db, "delete")
		s.mayBeAlone(db, c)
		refuse(db, "delete", err)
	}
}

// checkHooks looks at the context after hooks, before the rows of associations are written under it.
func (p *Plugin) checkHooks(op string) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if db.Error == nil {
			s := statement{Statement: db.Statement, bypass: bypassOf(db.Config.ConnPool)}
			refuse(db, op, s.checkContext())
		}
	}
}

func (p *Plugin) raw(db *gorm.DB) {
	_, err := p.enter(db, "raw")
	refuse(db, "raw", err)
}

// row lets the rows carry a refusal, also one that Bypass left in db: see refusedPool.
func (p *Plugin) row(db *gorm.DB) {
	_, err := p.enter(db, "row")
	if db.Error != nil && isRefusal(db.Error) {
		err, db.Error = db.Error, nil
	}
	if err != nil {
		err = explain(db.Statement, "row", err)
		if !isReported(err) {
			err = p.tell(db.Statement.Context, err)
		}
		db.Statement.ConnPool = refusedPool{err: err, instead: db.Statement.ConnPool}
	}
}

// statement is what the callbacks know about the statement they look at.
type statement struct {
	*gorm.Statement
	plugin *Plugin
	op     string
	bypass *bypassPool // not nil for the bypass client
	tenant tenantColumn

	ownTemporary bool // its table is a temporary one, and has the column
}

// enter is what all statements pass: their pool is guarded, their context has a tenant, their tables are isolated.
func (p *Plugin) enter(db *gorm.DB, op string) (statement, error) {
	if db.Error != nil {
		return statement{}, nil // GORM's own callbacks do nothing either
	}
	s := p.look(db, op)
	p.fresh.statement(s.Statement)
	if s.bypass != nil {
		return s, s.bypass.take(s.Statement)
	}
	// GORM builds a subquery by a dry run of its own, often without a context.
	if reads := op == "query" || op == "row"; reads && db.DryRun {
		return s, nil
	}
	pool, err := p.takePool(db)
	if err != nil {
		return s, err
	}
	s.enterContext()
	// Within a transaction a context that says nothing inherits; the guard knows from whom.
	if err := guard.CheckTenant(s.Context); err != nil && !inTransaction(s.ConnPool) {
		return s, err
	}
	return s, p.prove(&s, pool)
}

// entered is for a second look at a statement that passed.
func (p *Plugin) entered(db *gorm.DB, op string) (statement, bool) {
	if db.Error != nil {
		return statement{}, false
	}
	return p.look(db, op), true
}

func (p *Plugin) look(db *gorm.DB, op string) statement {
	return statement{
		Statement: db.Statement,
		plugin:    p,
		op:        op,
		bypass:    bypassOf(db.Config.ConnPool),
		tenant:    p.columnOf(db.Statement),
	}
}

func inTransaction(c gorm.ConnPool) bool {
	_, ok := c.(gorm.TxCommitter)
	return ok
}

// scope returns the tenant that the statement runs for, and "" for none. A context that says nothing, in a transaction,
// costs a question to PostgreSQL: only the guard knows the tenant, and sets it there.
func (s *statement) scope() (string, error) {
	if id, decided := guard.Tenant(s.Context); decided || s.bypass != nil || s.DryRun {
		return id, nil
	}
	var id sql.NullString
	const ask = `SELECT pg_catalog.current_setting($1, true)`
	err := plain(s.ConnPool).QueryRowContext(guard.Own(s.Context, ask), ask, s.plugin.config.Setting).Scan(&id)
	return id.String, err
}
