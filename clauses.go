package tenancy

import (
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// The plugin writes into SQL that GORM builds by GORM's clause builders, while GORM writes a clause. So the clauses of the
// statement stay those of the application. What looks at them works as without the plugin: gorm.ErrMissingWhereClause,
// FirstOrCreate, soft delete, and a statement that is used again.

// ourBuilders marks a map of clause builders that has the plugin's, because dbresolver's replicas share the map. No clause has
// this name.
const ourBuilders = "tenancy:builders"

// buildClauses registers the plugin's clause builders, around those that are there.
func (p *Plugin) buildClauses(db *gorm.DB) {
	if db.ClauseBuilders[ourBuilders] != nil {
		return
	}
	db.ClauseBuilders[ourBuilders] = func(clause.Clause, clause.Builder) {}
	for name, edit := range map[string]func(*gorm.Statement, clause.Clause) clause.Clause{
		"WHERE": p.writeWhere, "FROM": p.writeFrom, "ON CONFLICT": p.writeConflict, "VALUES": p.writeValues,
		"SELECT": p.bindIn, "GROUP BY": p.bindIn, "ORDER BY": p.bindIn, "SET": p.writeSet,
	} {
		next := db.ClauseBuilders[name]
		db.ClauseBuilders[name] = func(c clause.Clause, b clause.Builder) {
			if stmt, ok := b.(*gorm.Statement); ok {
				table := stmt.TableExpr // which writeFrom replaces
				defer func() { stmt.TableExpr = table }()
				c = edit(stmt, c)
			}
			if next != nil {
				next(c, b)
				return
			}
			c.Build(b)
		}
	}
}
