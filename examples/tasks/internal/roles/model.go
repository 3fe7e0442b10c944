// Package roles says who may do what in a tenant, by casbin.
//
// What a role may do is the same for all tenants, and is in code. Who has which role is each tenant's own: rows of its table, under isolation,
// from which an enforcer is made for each tenant. A role holds for the whole tenant, or for what is below one resource, such as a project.
//
// An action that no role of the caller allows is refused.
package roles

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

// The roles. Each may do what those after it may.
const (
	Owner  = "owner"  // everything
	Admin  = "admin"  // everything but to make and remove owners
	Member = "member" // the work: projects, tasks and labels
	Viewer = "viewer" // looking at it
)

// permissions are what a role may do: actions, in which a "*" stands for one part.
var permissions = map[string][]string{
	Owner:  {"*:*"},
	Admin:  {"*:read", "*:write", "grant:admin", "grant:member", "grant:viewer"},
	Member: {"projects:*", "tasks:*", "labels:*", "flags:read", "roles:read"},
	Viewer: {"projects:read", "tasks:read", "labels:read", "flags:read", "roles:read"},
}

// Everywhere is the scope of a role that holds for the whole tenant.
const Everywhere = "*"

// Grant says that a subject has a role in a scope. It is a row of a tenant table.
type Grant struct {
	ID       int64  `json:"-" gorm:"primaryKey"`
	TenantID string `json:"-" gorm:"not null"`
	// Subject is who has the role: "key:<id>", as package caller says.
	Subject string `json:"subject" gorm:"not null;uniqueIndex:role_grants_once"`
	Role    string `json:"role" gorm:"not null;uniqueIndex:role_grants_once;check:role_grants_role,role IN ('owner','admin','member','viewer')" enum:"owner,admin,member,viewer"`
	// Scope is "*", or a path such as "projects/<id>", of which a "*" stands for one part.
	Scope     string    `json:"scope" gorm:"not null;uniqueIndex:role_grants_once"`
	GrantedBy string    `json:"granted_by" gorm:"not null"`
	CreatedAt time.Time `json:"created_at" gorm:"not null"`
}

// TableName returns the name of the table.
func (Grant) TableName() string { return "role_grants" }

// MaxGrants is the number of grants that a tenant may have. All of them are kept in memory.
const MaxGrants = 10_000

// Errors of grants.
var (
	ErrForbidden = errors.New("roles: the caller may not do this")
	ErrMalformed = errors.New("roles: a grant needs a subject such as key:<id>, one of the roles, and a scope such as * or projects/<id>")
	ErrLastOwner = errors.New("roles: a tenant needs an owner: grant the role to another first")
	ErrTooMany   = errors.New("roles: the tenant has too many grants; revoke some first")
)

var (
	subjectPattern = regexp.MustCompile(`^[a-z]{1,20}:[A-Za-z0-9._@-]{1,100}$`)
	scopePattern   = regexp.MustCompile(`^(\*|[a-z-]{1,40}(/([A-Za-z0-9_-]{1,64}|\*)){0,5})$`)
	// parameterPattern is what a parameter of a path must be, to be one part of a resource.
	parameterPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

func (g Grant) check() error {
	_, known := permissions[g.Role]
	if !known || !subjectPattern.MatchString(g.Subject) || !scopePattern.MatchString(g.Scope) {
		return ErrMalformed
	}
	return nil
}

// covers reports whether a scope holds for a resource: for itself, and for what is below it.
func covers(scope, resource string) bool {
	if scope == Everywhere {
		return true
	}
	parts := strings.Split(resource, "/")
	for i, part := range strings.Split(scope, "/") {
		if i >= len(parts) || part != "*" && part != parts[i] {
			return false
		}
	}
	return true
}

// matches reports whether an action, such as "tasks:read", is one of a pattern, such as "*:read".
func matches(action, pattern string) bool {
	kind, verb, ok := strings.Cut(action, ":")
	allowedKind, allowedVerb, _ := strings.Cut(pattern, ":")
	return ok && kind != "" && verb != "" && (allowedKind == "*" || allowedKind == kind) && (allowedVerb == "*" || allowedVerb == verb)
}
