package model

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Partitions is how a table is partitioned by the tenant column.
type Partitions struct {
	Hash   int      // how many partitions tenants share; zero means one, of a table by list
	ByList bool     // tenants can have a partition of their own
	List   []string // those that have one
}

// Partition has the table of a model, which must be among those of the set, made with partitions. TenantKeys is set before.
func (s *Set) Partition(db *gorm.DB, value any, p Partitions) error {
	m := s.Migrator(db)
	name, err := s.TableOf(db, value, nil)
	if err != nil {
		return err
	}
	if _, twice := s.Partitions[name]; twice {
		return fmt.Errorf("model %T is named twice", value)
	}
	for n, tenant := range p.List {
		if slices.Contains(p.List[:n], tenant) {
			return fmt.Errorf("model %T: List names a tenant twice", value)
		}
	}
	for _, model := range s.models {
		if model.name != name {
			continue
		}
		tenant := model.Schema.FieldsByDBName[s.column]
		switch {
		case !s.tenants[model.Schema] || tenant == nil || tenant.IgnoreMigration && !m.makes(tenant):
			return fmt.Errorf("model %T has no column %s of its own, by which its rows could be parted: give it the field", value, s.column)
		case len(model.Schema.PrimaryFields) == 0 || m.keyedByType(model.Schema) || !slices.Contains(m.key(model.Schema), tenant):
			return fmt.Errorf("the primary key of model %T must hold the column %s (PostgreSQL wants that of partitioned tables): set TenantKeys, "+
				"and leave PRIMARY KEY out of the types of its fields", value, s.column)
		}
	}
	if s.Partitions == nil {
		s.Partitions = map[string]Partitions{}
	}
	s.Partitions[name] = p
	return nil
}

// partitionBy is the clause that makes a table partitioned.
func (s *Set) partitionBy(table string) string {
	p, partitioned := s.Partitions[table]
	switch {
	case !partitioned:
		return ""
	case p.ByList:
		return " PARTITION BY LIST (" + sqltext.Ident(s.column) + ")"
	}
	return " PARTITION BY HASH (" + sqltext.Ident(s.column) + ")"
}

// HashPartition is the name of a partition, one of so many, of a table.
func HashPartition(table string, count, remainder int) string {
	return suffixed(table, fmt.Sprintf("_p%0*d", len(fmt.Sprint(count-1)), remainder))
}

// RestPartition is the name of the partition of a table whose tenants have none of their own.
func RestPartition(table string) string { return suffixed(table, "_rest") }

// plainTenant matches tenants that are part of a name as they are.
var plainTenant = regexp.MustCompile(`^[A-Za-z0-9_-]{1,36}$`)

// TenantPartition is the name of the partition of a table that has one tenant. Others than plain ids are told apart by their hash.
func TenantPartition(table, tenant string) string {
	if !plainTenant.MatchString(tenant) {
		sum := sha256.Sum256([]byte(tenant))
		tenant = fmt.Sprintf("%x", sum[:10])
	}
	return suffixed(table, "_t_"+tenant)
}

func suffixed(table, suffix string) string {
	return sqltext.Cut(table, sqltext.MaxIdentifier-len(suffix)) + suffix
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// CheckTenant refuses a tenant that a column of the type cannot hold, or that PostgreSQL writes otherwise. The error does not hold it.
func CheckTenant(tenant, columnType string) error {
	valid := tenant != "" && utf8.ValidString(tenant) && !strings.ContainsRune(tenant, 0)
	bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[columnType]
	switch {
	case bits > 0:
		n, err := strconv.ParseInt(tenant, 10, bits)
		valid = err == nil && strconv.FormatInt(n, 10) == tenant
	case columnType == "uuid":
		valid = uuid.MatchString(tenant)
	}
	if !valid {
		return fmt.Errorf("a tenant is not what PostgreSQL writes of a value of type %s", columnType)
	}
	return nil
}
