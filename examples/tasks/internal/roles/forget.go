package roles

import (
	"context"
	"errors"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// RevokeAll takes all roles of a subject. The granter must be allowed to grant each of them, and the tenant must keep an owner; otherwise none is
// taken. A dry run reports the error, and takes none.
func (r *Roles) RevokeAll(ctx context.Context, granter, subject string, dryRun bool) error {
	err := r.tx(ctx).Transaction(func(tx *gorm.DB) error {
		// The owners are locked as by Revoke, so that two of them cannot be removed at once.
		var grants []Grant
		err := tx.Where("subject = ? OR role = ? AND scope = ?", subject, Owner, Everywhere).
			Order("id").Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Find(&grants).Error
		if err != nil {
			return err
		}
		e, err := load(tx)
		if err != nil {
			return err
		}
		owns, otherOwners := false, 0
		for _, g := range grants {
			owner := g.Role == Owner && g.Scope == Everywhere
			if g.Subject != subject {
				otherOwners++
				continue
			}
			owns = owns || owner
			ok, err := e.allows(granter, "grant:"+g.Role, g.Scope)
			if err != nil {
				return err
			}
			if !ok {
				return ErrForbidden
			}
		}
		if owns && otherOwners == 0 {
			return ErrLastOwner
		}
		if dryRun {
			return nil
		}
		return tx.Where("subject = ?", subject).Delete(&Grant{}).Error
	})
	return errors.Join(err, r.cache.Forget(ctx)) // a failed change may have been committed nevertheless
}

// Problem turns errors of this package into answers. Others are the API's.
func Problem(err error) error { return problem(err) }
