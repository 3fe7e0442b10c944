package model

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"gorm.io/gorm"
)

// Rehearse returns what AutoMigrate would send, except for the tenant column of a table that is there, which the plan adds. It reads only.
func (s *Set) Rehearse(db *gorm.DB) ([]string, error) {
	session := db.WithContext(db.Statement.Context)
	stage := &rehearsal{ConnPool: session.Statement.ConnPool, db: session}
	session.Statement.ConnPool = stage
	migrator := s.Migrator(session)
	migrator.rehearsed = true
	if err := migrator.AutoMigrate(s.given...); err != nil {
		return nil, err
	}
	return stage.statements, nil
}

// rehearsal is a connection that keeps statements instead of sending them, and sends queries.
type rehearsal struct {
	gorm.ConnPool
	db         *gorm.DB
	statements []string
}

// ExecContext keeps a statement.
func (r *rehearsal) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	r.statements = append(r.statements, r.db.Explain(query, args...))
	return driver.RowsAffected(0), nil
}
