package guard

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"

	"github.com/jackc/pgx/v5/pgconn"
)

// statement is one that the server has described, and has prepared if it has a name.
type statement struct {
	*pgconn.StatementDescription
	formats   []int16 // result formats, as pgx's stdlib chooses them
	class     class
	stateless bool    // it leaves nothing in the session
	layout    *layout // of the rows of a prepared statement, once some were read
}

// statementName is the same on all connections and after restarts, so that poolers and pg_stat_statements see one statement.
func statementName(sql string) string {
	digest := sha256.Sum256([]byte(sql))
	return statementPrefix + hex.EncodeToString(digest[:16])
}

// statementPrefix begins the names of all of the guard's prepared statements.
const statementPrefix = "tenancy_"

// cache keeps the statements of one connection that were used last, up to its capacity. The zero value keeps none.
type cache struct {
	capacity int
	bySQL    map[string]*list.Element
	order    list.List // of *statement, the one used last in front
}

func newCache(capacity int) *cache {
	return &cache{capacity: capacity, bySQL: make(map[string]*list.Element)}
}

func (c *cache) get(sql string) *statement {
	e := c.bySQL[sql]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*statement)
}

// put adds s, and returns the statement that it evicts, or nil.
func (c *cache) put(s *statement) (evicted *statement) {
	if c.order.Len() >= c.capacity {
		evicted = c.remove(c.order.Back().Value.(*statement).SQL)
	}
	c.bySQL[s.SQL] = c.order.PushFront(s)
	return evicted
}

func (c *cache) remove(sql string) *statement {
	e := c.bySQL[sql]
	if e == nil {
		return nil
	}
	delete(c.bySQL, sql)
	return c.order.Remove(e).(*statement)
}

// clear removes all statements, and returns the names of those that the server has prepared.
func (c *cache) clear() (names []string) {
	for e := c.order.Front(); e != nil; e = e.Next() {
		names = append(names, e.Value.(*statement).Name)
	}
	c.order.Init()
	clear(c.bySQL)
	return names
}
