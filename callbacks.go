package tenancy

import (
	"cmp"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/gormtx"
	"github.com/gormtenancy/tenancy/internal/guard"
)

// What the callbacks do for each of GORM's six kinds of statement. plugin.go says where they stand.

func (p *Plugin) create(c *chain) func(*gorm.DB) {
	return func(db *gorm.DB) {
		s, err := p.enter(db, "create")
		if err == nil {
			s.saveByKey()
			err = s.fill(true)
		}
		s.planAutocommit(db, c)
		refuse(db, "create", err)
	}
}

// checkCreate checks again after hooks and belongs-to associations, which can set columns.
func (p *Plugin) checkCreate(db *gorm.DB) {
	if s, ok := p.reenter(db, "create"); ok {
		refuse(db, "create", cmp.Or(s.checkContext(), s.fill(false)))
	}
}

func (p *Plugin) query(db *gorm.DB) {
	refuse(db, "query", p.read(db, "query"))
	if db.Error != nil {
		(&statement{Statement: db.Statement, plugin: p}).ensureWhere()
	}
}

// read serves the two kinds of statement by which GORM reads rows.
func (p *Plugin) read(db *gorm.DB, op string) error {
	s, err := p.enter(db, op)
	if err != nil || db.Error != nil {
		return err
	}
	s.ensureWhere()
	if db.DryRun {
		return nil
	}
	s.planJoins()
	return s.checkReplaced()
}

func (p *Plugin) update(c *chain) func(*gorm.DB) {
	return func(db *gorm.DB) {
		s, err := p.enter(db, "update")
		if err == nil {
			err = cmp.Or(s.checkAssignments(), s.bindKeys())
		}
		if err == nil && db.AllowGlobalUpdate {
			s.ensureWhere()
		}
		s.planAutocommit(db, c)
		refuse(db, "update", err)
	}
}

func (p *Plugin) checkUpdate(db *gorm.DB) {
	if s, ok := p.reenter(db, "update"); ok {
		refuse(db, "update", cmp.Or(s.checkContext(), s.checkAssignments()))
	}
}

func (p *Plugin) delete(c *chain) func(*gorm.DB) {
	return func(db *gorm.DB) {
		s, err := p.enter(db, "delete")
		if err == nil {
			err = s.bindKeys()
		}
		if err == nil && db.AllowGlobalUpdate {
			s.ensureWhere()
		}
		s.planAutocommit(db, c)
		refuse(db, "delete", err)
	}
}

// checkHooks checks the context after hooks, before the rows of associations are written under it.
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

// row lets the *sql.Row carry a refusal, also one that Bypass has left in db: see refusedPool.
func (p *Plugin) row(db *gorm.DB) {
	err := p.read(db, "row")
	if db.Error != nil && isRefusal(db.Error) {
		err, db.Error = db.Error, nil
	}
	if err != nil {
		if err = explain(db.Statement, "row", err); isRefusal(err) && !isReported(err) {
			err = p.reportRefusal(db.Statement.Context, err)
		}
		db.Statement.ConnPool = refusedPool{err: err, instead: db.Statement.ConnPool}
	}
}

// statement is what the callbacks know about the present statement.
type statement struct {
	*gorm.Statement
	plugin *Plugin
	op     string
	bypass *bypassPool // not nil for the bypass client
	tenant tenantColumn

	ownTemporary bool // its table is a temporary one with the tenant column
}

// statementOf returns the statement that a clause is built for.
func (p *Plugin) statementOf(stmt *gorm.Statement) statement {
	return statement{Statement: stmt, plugin: p, bypass: bypassOf(stmt.DB.Config.ConnPool)}
}

// enter is the first check of every statement: it gets a guarded pool, must have a tenant, and its tables must be isolated.
func (p *Plugin) enter(db *gorm.DB, op string) (statement, error) {
	if db.Error != nil {
		return statement{}, nil // GORM's own callbacks do nothing either
	}
	s := p.newStatement(db, op)
	p.scanPools.statement(s.Statement)
	if s.bypass != nil {
		return s, s.bypass.take(s.Statement)
	}
	// GORM builds a subquery by a dry run, often without a context.
	if reads := op == "query" || op == "row"; reads && db.DryRun {
		return s, nil
	}
	pool, err := p.takePool(db)
	if err != nil {
		return s, err
	}
	s.enterContext()
	if s.isObserved() {
		return s, s.observe()
	}
	// In a transaction a context that says nothing inherits the transaction's tenant, which the guard knows.
	if err := guard.CheckTenant(s.Context); err != nil && !gormtx.In(s.ConnPool) {
		return s, err
	}
	if id, _ := guard.Tenant(s.Context); id != "" && s.SQL.Len() == 0 && !s.tenant.accepts(id) {
		return s, s.tenant.errInvalid()
	}
	return s, p.verifyIsolation(&s, pool)
}

// reenter is for a second check of a statement that has passed the first.
func (p *Plugin) reenter(db *gorm.DB, op string) (statement, bool) {
	if db.Error != nil {
		return statement{}, false
	}
	return p.newStatement(db, op), true
}

func (p *Plugin) newStatement(db *gorm.DB, op string) statement {
	return statement{
		Statement: db.Statement,
		plugin:    p,
		op:        op,
		bypass:    bypassOf(db.Config.ConnPool),
		tenant:    p.columnOf(db.Statement, op),
	}
}

// scope returns the tenant that the statement runs for, and "" for none. In a transaction, a context that says nothing inherits
// the transaction's tenant, which the guard knows.
func (s *statement) scope() (string, error) {
	if id, decided := guard.Tenant(s.Context); decided || s.bypass != nil || !gormtx.In(s.ConnPool) {
		return id, nil
	}
	id, err := guard.TransactionTenant(s.Context, unprepared(s.ConnPool))
	return id, notAnswered(err)
}
