package guard

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// classify finds out what the guard can know of a statement from its origin, its text and its caller.
func (c *conn) classify(q *call) {
	c.classifyText(q)
	q.held = q.held || c.tx == nil && !q.stateless && isHeld(farCallers)
}

func (c *conn) classifyText(q *call) {
	if q.origin != nil && q.origin.own {
		q.class, q.plain, q.stateless = query, true, true
		return
	}
	q.class, q.plain = c.textOf(q)
	if q.plain && q.mode == pgx.QueryExecModeSimpleProtocol && c.mode != q.mode && len(q.args) == 0 && !strings.Contains(q.sql, "$") {
		q.mode = pgx.QueryExecModeExec // it is a single statement, which the simple protocol is not needed for
	}
	q.stateless = q.plain && !c.cfg.CleanAlways
	if q.stateless {
		return
	}
	if q.class == control && c.tx == nil && maySeveral(q.sql) {
		q.class = utility // SET TRANSACTION would have no effect in it
	}
	if q.class == utility && isCall(q.sql) && c.tx == nil && c.cfg.roleOf(q.scope) == "" && !maySeveral(q.sql) &&
		(q.scope.isWithoutTenant() || q.scope.bypass != nil && !q.scope.readOnly()) {
		q.commits = true
		if q.mode == pgx.QueryExecModeSimpleProtocol {
			q.mode = pgx.QueryExecModeExec // a CALL cannot commit in SQL text that has something before it
		}
	}
}

// textOf returns what a statement's text says about it. A cached statement has been read before.
func (c *conn) textOf(q *call) (k class, plain bool) {
	if known := c.cacheOf(q); known != nil {
		if st := known.get(q.sql); st != nil {
			return st.class, st.stateless
		}
	}
	return classOf(q.sql), isStateless(q.sql)
}
