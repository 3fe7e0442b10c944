package roles

import (
	"context"
	"errors"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/tenantcache"
)

// Roles authorises callers, and grants roles. It is safe for concurrent use.
type Roles struct {
	db    *gorm.DB
	tx    func(context.Context) *gorm.DB
	cache *tenantcache.Cache[enforcer]
}

// New makes Roles that read grants by db, and change them by what tx returns, such as the transaction of a request. Nil means db.
//
// A role that another process has revoked ends within a second. In this process it ends at once.
func New(db *gorm.DB, tx func(context.Context) *gorm.DB) (*Roles, error) {
	if tx == nil {
		tx = func(ctx context.Context) *gorm.DB { return db.WithContext(ctx) }
	}
	cache, err := tenantcache.New[enforcer]("roles", tenantcache.Config{Life: time.Second, Tenants: 1000})
	if err != nil {
		return nil, err
	}
	return &Roles{db: db, tx: tx, cache: cache}, nil
}

// Close ends the cache's goroutine. The Roles must not be used afterwards.
func (r *Roles) Close() { r.cache.Close() }

// Allows reports whether a subject of the context's tenant may do this to a resource, such as "tasks:write" to "projects/<id>/tasks". After
// an error it may not.
func (r *Roles) Allows(ctx context.Context, subject, action, resource string) (bool, error) {
	e, err := r.cache.Get(ctx, func(ctx context.Context) (enforcer, error) { return load(r.db.WithContext(ctx)) })
	if err != nil {
		return false, err
	}
	return e.allows(subject, action, resource)
}

// Grant gives a role. The granter must be allowed to "grant:<role>" in the whole scope, as the database says now. It is not an error if the
// subject has the role already.
func (r *Roles) Grant(ctx context.Context, granter string, g Grant) error {
	if err := g.check(); err != nil {
		return err
	}
	g.ID, g.TenantID, g.CreatedAt, g.GrantedBy = 0, "", time.Time{}, granter
	return r.change(ctx, granter, g, func(tx *gorm.DB) error {
		var n int64
		if err := tx.Model(&Grant{}).Count(&n).Error; err != nil {
			return err
		}
		if n >= MaxGrants {
			return ErrTooMany
		}
		return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&g).Error
	})
}

// Revoke takes a role, and reports whether the subject had it. The granter must be allowed to grant it. The last owner of a tenant stays.
func (r *Roles) Revoke(ctx context.Context, granter string, g Grant) (was bool, err error) {
	if err := g.check(); err != nil {
		return false, err
	}
	err = r.change(ctx, granter, g, func(tx *gorm.DB) error {
		if g.Role == Owner && g.Scope == Everywhere {
			var owners []Grant
			err := tx.Where("role = ? AND scope = ?", Owner, Everywhere).Order("id").Clauses(clause.Locking{Strength: "UPDATE"}).Find(&owners).Error
			if err != nil {
				return err
			}
			if len(owners) == 1 && owners[0].Subject == g.Subject {
				return ErrLastOwner
			}
		}
		result := tx.Where("subject = ? AND role = ? AND scope = ?", g.Subject, g.Role, g.Scope).Delete(&Grant{})
		was = result.RowsAffected > 0
		return result.Error
	})
	return was, err
}

// change calls fn in a transaction, if the granter may grant the role. It does not ask the cache, which may be late.
func (r *Roles) change(ctx context.Context, granter string, g Grant, fn func(tx *gorm.DB) error) error {
	err := r.tx(ctx).Transaction(func(tx *gorm.DB) error {
		e, err := load(tx)
		if err != nil {
			return err
		}
		ok, err := e.allows(granter, "grant:"+g.Role, g.Scope)
		if err != nil {
			return err
		}
		if !ok {
			return ErrForbidden
		}
		return fn(tx)
	})
	return errors.Join(err, r.cache.Forget(ctx)) // a failed change may have been committed nevertheless
}

// List returns the grants of the context's tenant.
func (r *Roles) List(ctx context.Context) ([]Grant, error) {
	all := []Grant{}
	err := r.tx(ctx).Order("subject, role, scope").Find(&all).Error
	return all, err
}

// Found makes the first owner of the tenant that tx acts for: call it where a tenant is made, in the same transaction. It returns ErrForbidden
// if the tenant has grants.
func Found(tx *gorm.DB, subject string) error {
	g := Grant{Subject: subject, Role: Owner, Scope: Everywhere, GrantedBy: "system:founding"}
	if err := g.check(); err != nil {
		return err
	}
	var n int64
	if err := tx.Model(&Grant{}).Count(&n).Error; err != nil {
		return err
	}
	if n > 0 {
		return ErrForbidden
	}
	return tx.Create(&g).Error
}
