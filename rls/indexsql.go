package rls

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
)

// IndexSQL returns a script that makes the indexes of the models' tables by CREATE INDEX CONCURRENTLY, to be run before that
// of SQL where tables have rows already, and models have grown. SQL then finds the indexes by their names.
//
// The tables must be there, with all columns of their models; join tables get the tenant column. The script must not run in
// a transaction, and a statement that fails leaves an index that is INVALID behind: drop it before the script is run again.
// Unique indexes that are there without the tenant column are not replaced, for that takes two indexes of one name:
// Migrate does it.
//
//	-- +goose NO TRANSACTION
//	-- +goose Up
//
// are the lines that goose needs before it, and -- atlas:txmode none that for Atlas. golang-migrate takes one statement in a
// file. What SQL says of db and of errors holds here too.
func (i Isolation) IndexSQL(db *gorm.DB, models ...any) (string, error) {
	i, err := i.complete()
	if err != nil {
		return "", err
	}
	if err := supported(db); err != nil {
		return "", fmt.Errorf("rls: %w", err)
	}
	m, targets, err := i.prepare(db, models)
	if err != nil {
		return "", fmt.Errorf("rls: %w", err)
	}
	tables, err := i.expect(m, targets, models)
	if err != nil {
		return "", fmt.Errorf("rls: %w", err)
	}
	tagged, err := m.tagged(tables, models)
	if err != nil {
		return "", fmt.Errorf("rls: %w", err)
	}
	var b strings.Builder
	b.WriteString("-- Indexes for tables that have rows, made while others go on writing. Not to be run in a transaction; it can be\n" +
		"-- repeated, but an index that a failed statement has left INVALID must be dropped first.\n")
	for _, c := range append(i.plan(tables), tagged...) {
		if c.apart != "" {
			fmt.Fprintf(&b, "\n-- Table %s: %s\n%s", comment(c.Table), comment(c.Description), c.apart)
		}
	}
	return b.String(), nil
}
