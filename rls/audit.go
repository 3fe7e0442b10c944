package rls

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls/internal/model"
	"github.com/gormtenancy/tenancy/rls/internal/plan"
)

// Audit names a model whose table is audited. A trigger of each row records every INSERT, UPDATE and DELETE, in the transaction of
// the change: raw SQL, bulk statements, both branches of an upsert, MERGE, cascades, COPY, and statements of package tenancy's Bypass,
// also with session_replication_role = replica, and on partitions that are made later. TRUNCATE is refused, because it shows no rows
// to a trigger. If a record cannot be written, the change fails.
//
// A record belongs to the tenant of the row, whatever the setting says. A row that goes from one tenant to another is recorded for
// both, each with its own side. Records are made by a SECURITY DEFINER function of the table's owner; no role that Isolation
// names may insert, change or delete any, AdminRole included. The owner can: it can drop the trigger, too, which Check finds.
//
// The record of an UPDATE holds the columns that it changed, and the others all of the row's. See AuditRecord for its columns.
type Audit struct {
	// Model must be one whose rows belong to tenants.
	Model any

	// Omit are columns, as in the database, that records leave out. Those of the primary key, and the one of the tenant, cannot be.
	Omit []string

	// Mask are columns of which a record tells that they were there, or have changed, and not their values: it has "***" instead. What
	// holds for Omit holds here too.
	Mask []string
}

// AuditRecord is a row of the table tenancy_audit, for isolations whose Column is "tenant_id". Tenants read their own:
//
//	db.WithContext(ctx).Where("table_name = ?", "invoices").Order("at DESC").Limit(50).Find(&records)
//
// The table is made by Migrate, and this model is none for Migrate or AutoMigrate.
type AuditRecord struct {
	TenantID string    // of the row
	At       time.Time // when the row was changed
	ID       int64     `gorm:"primaryKey"` // in the order in which they were made
	Xact     int64     // the transaction, the same in all of its records, as txid_current returns it

	Operation string // INSERT, UPDATE or DELETE
	Schema    string `gorm:"column:table_schema"` // of the table or, for a partition, of the partition
	Table     string `gorm:"column:table_name"`   // for a partition, the name of the whole

	Key    json.RawMessage `gorm:"type:jsonb"` // the primary key by column, after the change; nil if the table has none
	Before json.RawMessage `gorm:"type:jsonb"` // the row before; of an UPDATE the columns that it changed; nil for an INSERT
	After  json.RawMessage `gorm:"type:jsonb"` // and after; nil for a DELETE

	Actor     *string // who, as the application said
	RequestID *string // for which request, as the application said
	Reason    *string // of Bypass

	Login string // the role that the session logged in as
	Role  string // the role of the statement
}

// TableName returns the name of the table, for GORM.
func (AuditRecord) TableName() string { return "tenancy_audit" }

// audits returns what is recorded, by table.
func (i Isolation) audits(db *gorm.DB, set *model.Set) (map[string]plan.Audit, error) {
	audits := map[string]plan.Audit{}
	for _, a := range i.Audits {
		named := slices.Concat(a.Omit, a.Mask)
		table, err := set.TableOf(db, a.Model, named)
		if err != nil {
			return nil, fmt.Errorf("Audits: %w", err)
		}
		n := slices.IndexFunc(set.Tables, func(t *model.Table) bool { return t.Name == table })
		for _, column := range named {
			if t := set.Tables[n]; column == set.Column() || column == t.OwnColumn || slices.Contains(t.Primary, column) {
				return nil, fmt.Errorf("Audits: column %s of model %T says which row a record is about: it cannot be left out or masked",
					sqltext.Ident(column), a.Model)
			}
		}
		if _, twice := audits[table]; twice {
			return nil, fmt.Errorf("Audits: model %T is named twice", a.Model)
		}
		audits[table] = plan.Audit{Omit: a.Omit, Mask: a.Mask}
	}
	return audits, nil
}
