package model

import (
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// Partition has the table of a model, which must be among those of the set, made with so many partitions. TenantKeys is set before.
func (s *Set) Partition(db *gorm.DB, value any, count int) error {
	m := s.Migrator(db)
	name, err := s.TableOf(db, value, nil)
	if err != nil {
		return err
	}
	if s.Partitions[name] > 0 {
		return fmt.Errorf("model %T is named twice", value)
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
		s.Partitions = map[string]int{}
	}
	s.Partitions[name] = count
	return nil
}

// PartitionName is the name of a partition, one of so many, of a table.
func PartitionName(table string, count, remainder int) string {
	suffix := fmt.Sprintf("_p%0*d", len(fmt.Sprint(count-1)), remainder)
	return sqltext.Cut(table, sqltext.MaxIdentifier-len(suffix)) + suffix
}
