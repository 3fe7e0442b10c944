package flags

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Override is what a tenant has decided about a flag. It is a row of a tenant table.
type Override struct {
	ID       int64  `gorm:"primaryKey"`
	TenantID string `gorm:"not null"`
	Flag     string `gorm:"not null;uniqueIndex:flag_overrides_once"`
	// Subject is the user that it is for, such as "key:<id>". Empty means the whole tenant.
	Subject string `gorm:"not null;uniqueIndex:flag_overrides_once"`
	Variant string `gorm:"not null"`
	// Percent is the part of the tenant's users that get the variant. It is 100 for a single user.
	Percent   int    `gorm:"not null;check:flag_overrides_percent,percent BETWEEN 0 AND 100"`
	SetBy     string `gorm:"not null"`
	UpdatedAt time.Time
}

// TableName returns the name of the table.
func (Override) TableName() string { return "flag_overrides" }

// MaxOverrides is the number of overrides that a tenant may have. All of them are kept in memory.
const MaxOverrides = 1000

// Errors of changes.
var (
	ErrUnknownFlag    = errors.New("flags: there is no such flag")
	ErrUnknownVariant = errors.New("flags: the flag has no such variant")
	ErrPercent        = errors.New("flags: the percentage must be from 0 to 100, and 100 for a single user")
	ErrTooMany        = errors.New("flags: the tenant has too many overrides; remove some first")
)

// Put sets or replaces an override of the context's tenant. Its ID, TenantID and UpdatedAt are not used.
func (f *Flags) Put(ctx context.Context, o Override) error {
	definition, ok := f.set.byKey[o.Flag]
	if !ok {
		return ErrUnknownFlag
	}
	if _, ok := definition.Variants[o.Variant]; !ok {
		return ErrUnknownVariant
	}
	if o.Percent < 0 || o.Percent > 100 || o.Subject != "" && o.Percent != 100 {
		return ErrPercent
	}
	o.ID, o.TenantID, o.UpdatedAt = 0, "", time.Time{}
	err := f.tx(ctx).Transaction(func(tx *gorm.DB) error {
		var others int64
		err := tx.Model(&Override{}).Where("(flag, subject) <> (?, ?)", o.Flag, o.Subject).Count(&others).Error
		if err != nil {
			return err
		}
		if others >= MaxOverrides {
			return ErrTooMany
		}
		return tx.Clauses(clause.OnConflict{
			Columns:   []clause.Column{{Name: "flag"}, {Name: "subject"}},
			DoUpdates: clause.AssignmentColumns([]string{"variant", "percent", "set_by", "updated_at"}),
		}).Create(&o).Error
	})
	return errors.Join(err, f.forget(ctx))
}

// Clear removes an override of the context's tenant, and reports whether there was one.
func (f *Flags) Clear(ctx context.Context, flag, subject string) (bool, error) {
	result := f.tx(ctx).Where("flag = ? AND subject = ?", flag, subject).Delete(&Override{})
	return result.RowsAffected > 0, errors.Join(result.Error, f.forget(ctx))
}

// Overrides are those of the context's tenant, as its changes see them.
func (f *Flags) Overrides(ctx context.Context) ([]Override, error) {
	var all []Override
	err := f.tx(ctx).Order("flag, subject").Find(&all).Error
	return all, err
}
