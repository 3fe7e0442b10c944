package rls

import (
	"fmt"

	"gorm.io/gorm"
)

// SQL returns what Migrate does as a script, for goose, golang-migrate or Atlas: up makes the tables of the models and
// isolates them, down drops them. The script is for an empty database, or one on which it has run before, where it
// changes nothing. Tables that are there already it isolates, but it does not look at them: where unique indexes and
// foreign keys have the names of ours it takes them for ours. Migrate finds out what they lack. Partitions are not in the
// script, they are made in other ways than by models: Migrate gives them their policies.
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
// ConcurrentIndexes changes nothing about it: within a transaction no index can be made concurrently, and on tables without
// rows that would gain nothing. IndexSQL returns the indexes apart, for tables that have rows.
//
// psql and golang-migrate take up and down as they are, the latter as its files .up.sql and .down.sql and without
// x-multi-statement. For goose, put the line -- +goose Up before up and -- +goose Down before down, in one file: blocks that
// have semicolons within are marked for it. Atlas takes up as it is, as a file of its migration directory; it wants
// atlas migrate hash after that, and --allow-dirty where the first migration finds a database that isn't empty. Files of
// Atlas only go up: there, down is the next migration.
//
// SQL fails when the isolation or a model is invalid, or a tenant column has a type other than Migrate supports.
func (i Isolation) SQL(db *gorm.DB, models ...any) (up, down string, err error) {
	i, err = i.complete()
	if err != nil {
		return "", "", err
	}
	if err := supported(db); err != nil {
		return "", "", fmt.Errorf("rls: %w", err)
	}
	m, targets, err := i.prepare(db, models)
	if err != nil {
		return "", "", fmt.Errorf("rls: %w", err)
	}
	made, err := m.record(models)
	if err != nil {
		return "", "", fmt.Errorf("rls: %w", err)
	}
	tables, err := i.expect(m, targets, models)
	if err != nil {
		return "", "", fmt.Errorf("rls: %w", err)
	}
	return i.up(made, i.plan(tables)), i.down(tables), nil
}

// expect returns the tables of the targets as they are in a database where only the recorded statements have run. What
// nobody can know without looking counts as missing, so that the plan makes it, or as there, so that the plan takes it away.
func (i Isolation) expect(m migrator, targets []*target, models []any) ([]table, error) {
	relations, err := m.relations(targets, models)
	if err != nil {
		return nil, err
	}
	for n := range relations {
		r := &relations[n]
		r.Grants = map[string][]string{}
		for _, role := range i.roles() {
			r.Grants[role] = []string{"REFERENCES", "TRIGGER", "TRUNCATE"}
			if role == i.ReadOnlyRole {
				r.Grants[role] = append(r.Grants[role], "INSERT", "UPDATE", "DELETE")
			}
		}
		for s := range r.Sequences {
			r.Sequences[s].Grants = map[string][]string{}
			for _, role := range i.roles() {
				r.Sequences[s].Grants[role] = []string{"UPDATE"}
				if role == i.ReadOnlyRole {
					r.Sequences[s].Grants[role] = []string{"USAGE", "SELECT", "UPDATE"}
				}
			}
		}
		if r.Schema == "" {
			r.Usable = i.roles()
		}
	}
	policies := map[string]policy{}
	for _, name := range i.policyNames() {
		policies[name] = policy{}
	}
	tables, err := i.tables(targets, relations, func(columnType string) (*pattern, error) {
		return &pattern{columnType: columnType, columnDefault: i.current(columnType), policies: policies}, nil
	})
	for n := range tables {
		tables[n].fresh = true
	}
	return tables, err
}
