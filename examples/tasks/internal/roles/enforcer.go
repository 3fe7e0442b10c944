package roles

import (
	"github.com/casbin/casbin/v3"
	"github.com/casbin/casbin/v3/model"
	"gorm.io/gorm"
)

// rules are casbin's: a subject has a role in a scope (g), and a role allows actions (p).
const rules = `
[request_definition]
r = subject, resource, action
[policy_definition]
p = role, action
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.subject, p.role, r.resource) && matches(r.action, p.action)`

// Casbin keeps subjects and roles in one set of names. The prefixes keep a subject that is called as a role from being one.
const (
	subjectName = "subject "
	roleName    = "role "
)

// enforcer answers for one tenant, at one time. It is safe for concurrent use, as long as nothing changes it.
type enforcer struct{ casbin *casbin.SyncedEnforcer }

// load makes an enforcer of the grants of the tenant that tx acts for. Casbin's own adapter for GORM is not used: it sends its statements
// without the caller's context.
func load(tx *gorm.DB) (enforcer, error) {
	var grants []Grant
	if err := tx.Find(&grants).Error; err != nil {
		return enforcer{}, err
	}
	m, err := model.NewModelFromString(rules)
	if err != nil {
		return enforcer{}, err
	}
	c, err := casbin.NewSyncedEnforcer(m)
	if err != nil {
		return enforcer{}, err
	}
	c.AddFunction("matches", func(args ...any) (any, error) { return matches(args[0].(string), args[1].(string)), nil })
	c.AddNamedDomainMatchingFunc("g", "covers", func(resource, scope string) bool { return covers(scope, resource) })
	for role, actions := range permissions {
		for _, action := range actions {
			if _, err := c.AddPolicy(roleName+role, action); err != nil {
				return enforcer{}, err
			}
		}
	}
	var held [][]string
	for _, g := range grants {
		held = append(held, []string{subjectName + g.Subject, roleName + g.Role, g.Scope})
	}
	if len(held) > 0 {
		if _, err := c.AddGroupingPolicies(held); err != nil {
			return enforcer{}, err
		}
	}
	return enforcer{c}, nil
}

// allows reports whether a subject may do this to a resource, such as "tasks:write" to "projects/7/tasks".
func (e enforcer) allows(subject, action, resource string) (bool, error) {
	if subject == "" || action == "" || resource == "" {
		return false, nil
	}
	return e.casbin.Enforce(subjectName+subject, resource, action)
}
