// Package flags decides features by tenant and user, behind the SDK of OpenFeature.
//
// What flags there are is said in code, by a Set. A tenant overrides them for itself in its own table, under isolation: for one of its users,
// for all of them, or for a percentage. An evaluation takes the first of
//
//  1. the override for the user (TARGETING_MATCH),
//  2. the override for the whole tenant (TARGETING_MATCH, or SPLIT where it has a percentage),
//  3. the rollout of the definition (SPLIT),
//  4. the default of the definition (STATIC).
//
// The tenant is the context's. An evaluation context of OpenFeature can name a user (the targeting key) but no tenant.
package flags

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// Kind is the type of a flag's values.
type Kind string

// The kinds of OpenFeature.
const (
	Bool   Kind = "boolean"
	String Kind = "string"
	Int    Kind = "integer"
	Float  Kind = "float"
	Object Kind = "object"
)

// Unit is what a rollout counts.
type Unit uint8

// A rollout counts users, or whole tenants.
const (
	Users Unit = iota
	Tenants
)

// Definition is a flag, the same for all tenants.
type Definition struct {
	// Key names the flag, such as "board-view".
	Key         string
	Description string
	// Variants are the values, by name. All have one type: bool, string, int, float64, or map[string]any for an object.
	Variants map[string]any
	// Default names the variant of users about which nothing else is said.
	Default string
	// Disabled has each evaluation return the caller's default (DISABLED), whatever is overridden.
	Disabled bool
	// Rollout gives a variant to a part of the users or tenants. Nil means none.
	Rollout *Rollout

	kind Kind
}

// Rollout gives a variant to a percentage. Raising it takes the variant from no user.
type Rollout struct {
	Variant string
	Percent int // 0 to 100
	By      Unit
}

// Set is the flags of an application.
type Set struct {
	byKey map[string]Definition
	keys  []string // sorted
}

var keyPattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// NewSet checks definitions. Its errors say what to change.
func NewSet(definitions ...Definition) (Set, error) {
	set := Set{byKey: map[string]Definition{}}
	var errs []error
	for _, d := range definitions {
		if _, twice := set.byKey[d.Key]; twice {
			errs = append(errs, fmt.Errorf("flag %q is defined twice", d.Key))
		}
		if err := d.prepare(); err != nil {
			errs = append(errs, fmt.Errorf("flag %q: %w", d.Key, err))
		}
		set.byKey[d.Key] = d
	}
	set.keys = slices.Sorted(maps.Keys(set.byKey))
	return set, errors.Join(errs...)
}

// prepare checks a definition, and finds its kind.
func (d *Definition) prepare() error {
	if !keyPattern.MatchString(d.Key) {
		return errors.New("the key must be lower-case letters, digits and hyphens, at most 63")
	}
	variants := map[string]any{}
	for name, value := range d.Variants {
		if !keyPattern.MatchString(name) {
			return fmt.Errorf("variant %q must be lower-case letters, digits and hyphens, at most 63", name)
		}
		kind := kindOf(&value)
		if kind == "" || d.kind != "" && kind != d.kind {
			return errors.New("the variants must have one type: bool, string, int, float64 or map[string]any")
		}
		d.kind, variants[name] = kind, value
	}
	d.Variants = variants
	if _, ok := d.Variants[d.Default]; !ok {
		return fmt.Errorf("the default %q is not among the variants", d.Default)
	}
	if r := d.Rollout; r != nil {
		if _, ok := d.Variants[r.Variant]; !ok || r.Percent < 0 || r.Percent > 100 || r.By > Tenants {
			return errors.New("the rollout needs one of the variants, a percentage from 0 to 100, and users or tenants to count")
		}
	}
	return nil
}

// kindOf returns the kind of a value, or "". It makes an int an int64.
func kindOf(value *any) Kind {
	switch v := (*value).(type) {
	case bool:
		return Bool
	case string:
		return String
	case int:
		*value = int64(v)
		return Int
	case int64:
		return Int
	case float64:
		return Float
	case map[string]any:
		return Object
	default:
		return ""
	}
}
