package tenancy

import (
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// What the plugin writes into SQL that GORM builds, it writes while GORM builds a clause, by GORM's clause builders. So the clauses
// of the statement stay those of the application, and all that looks at them sees nothing else: gorm.ErrMissingWhereClause,
// FirstOrCreate, soft delete and a statement that is used again.

// ourBuilders marks the builders of a *gorm.DB that have ours: the map is shared with dbresolver's replicas. No clause has this
// name.
const ourBuilders = "tenancy:builders"

// buildClauses makes db write what the plugin adds to clauses.
func (p *Plugin) buildClauses(db *gorm.DB) {
	if db.ClauseBuilders[ourBuilders] != nil {
		return
	}
	db.ClauseBuilders[ourBuilders] = func(clause.Clause, clause.Builder) {}
	for name, edit := range map[string]func(*gorm.Statement, clause.Clause) clause.Clause{
		"WHERE": p.writeWhere, "FROM": p.writeFrom, "ON CONFLICT": p.writeConflict, "VALUES": p.writeValues,
		"SELECT": p.bindIn, "GROUP BY": p.bindIn, "ORDER BY": p.bindIn, "SET": p.bindIn,
	} {
		next := db.ClauseBuilders[name]
		db.ClauseBuilders[name] = func(c clause.Clause, b clause.Builder) {
			if stmt, ok := b.(*gorm.Statement); ok {
				table := stmt.TableExpr // which writeFrom exchanges
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
