package rls

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/rls/internal/model"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// SQL returns what Migrate does as a script, for goose, golang-migrate or Atlas: up makes the tables of the models and
// isolates them, down drops them. The script is for an empty database, or one on which it has run before, where it
// changes nothing. Tables that are there already it isolates, but it does not look at them: where unique indexes and
// foreign keys have the names of ours it takes them for ours. Migrate finds out what they lack. Of partitions the script has those of
// Partition. Others are made in other ways than by models: Migrate gives them their policies.
//
// No connection is needed: db tells the names and types that GORM uses, and can be in DryRun mode with a DSN that leads
// nowhere.
//
//	db, err := gorm.Open(postgres.Open(""), &gorm.Config{DryRun: true, DisableAutomaticPing: true})
//
// The script must run as the role that owns the tables, with the roles there. It holds neither BEGIN nor COMMIT:
// let the tool run it in a transaction. Names without a schema are those of the search_path, and no USAGE of that schema is
// granted, which everyone has of the schema public.
//
// ConcurrentIndexes and KeepSchema change nothing about it: within a transaction no index can be made concurrently, and on tables without
// rows that would gain nothing. IndexSQL returns the indexes apart, for tables that have rows.
//
// With Engine Citus, the tool must send statement by statement, as psql and goose do.
//
// psql and golang-migrate take up and down as they are, the latter as its files .up.sql and .down.sql and without
// x-multi-statement. For goose, put the line -- +goose Up before up and -- +goose Down before down, in one file: blocks that
// have semicolons within are marked for it. Atlas takes up as it is, as a file of its migration directory; it wants
// atlas migrate hash after that, and --allow-dirty where the first migration finds a database that isn't empty. Files of
// Atlas only go up: there, down is the next migration.
//
// SQL fails when the isolation or a model is invalid, or a tenant column has a type other than Migrate supports.
func (i Isolation) SQL(db *gorm.DB, models ...any) (up, down string, err error) {
	p, m, tables, err := i.expect(db, models)
	if err != nil {
		return "", "", err
	}
	made, err := m.Record()
	if err != nil {
		return "", "", fmt.Errorf("tenancy: %w", err)
	}
	return p.Up(made, p.Plan(tables)), p.Down(tables), nil
}

// IndexSQL returns a script that makes the indexes of the models' tables by CREATE INDEX CONCURRENTLY, to be run before that
// of SQL where tables have rows already, and models have grown. SQL then finds the indexes by their names.
//
// The tables must be there, with all columns of their models; join tables get the tenant column. The script must not run in
// a transaction, and a statement that fails leaves an index that is INVALID behind: drop it before the script is run again.
// Unique indexes that are there without the tenant column are not replaced, because that takes two indexes of one name:
// Migrate does it.
//
//	-- +goose NO TRANSACTION
//	-- +goose Up
//
// are the lines that goose needs before it, and -- atlas:txmode none that for Atlas. golang-migrate takes one statement in a
// file. What SQL says of db and of errors holds here too.
func (i Isolation) IndexSQL(db *gorm.DB, models ...any) (string, error) {
	p, m, tables, err := i.expect(db, models)
	if err != nil {
		return "", err
	}
	tagged, err := plan.Tagged(tables, m)
	if err != nil {
		return "", fmt.Errorf("tenancy: %w", err)
	}
	return plan.IndexScript(append(p.Plan(tables), tagged...)), nil
}

// expect returns the tables of models as they are in a database where only GORM's own statements have run.
func (i Isolation) expect(db *gorm.DB, models []any) (plan.Planner, model.Migrator, []plan.Table, error) {
	p, err := i.planner()
	if err != nil {
		return p, model.Migrator{}, nil, err
	}
	if err := model.Supported(db); err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	set, err := model.Parse(db, p.Column, models)
	if err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	set.TenantKeys = p.TenantKeys
	if p.Partitions, err = i.partitions(db, set, p.Rollout); err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if p.Lookups, err = i.lookups(db, set); err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if p.Fills, err = i.fills(db, set); err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	if p.Audits, err = i.audits(db, set); err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	m := set.Migrator(db)
	tables, err := p.Expect(m, set)
	if err != nil {
		return p, model.Migrator{}, nil, fmt.Errorf("tenancy: %w", err)
	}
	return p, m, tables, nil
}
