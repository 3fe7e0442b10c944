// Package decoy makes ids of tenants that do not exist, so that a question about such a tenant can be asked as about any other,
// and takes as long.
package decoy

import (
	"strings"
	"sync/atomic"
)

// The forms of ids.
const (
	unknown int32 = iota
	integer
	uuid
	text
)

// A Decoy learns the form of the tenants' ids from those that it is shown. The zero value has seen none. It is safe for
// concurrent use.
type Decoy struct{ form atomic.Int32 }

// Learn remembers the form of a real tenant's id.
func (d *Decoy) Learn(id string) {
	form := text
	switch {
	case strings.Trim(id, "0123456789") == "":
		form = integer
	case isUUID(id):
		form = uuid
	}
	if d.form.Load() != form { // a load costs other processors nothing
		d.form.Store(form)
	}
}

// ID returns an id of that form that no tenant has: package tenancy takes the nil UUID and 0 for unset ids. It returns false if
// no real id was seen yet, so that the id may not fit its column.
func (d *Decoy) ID() (string, bool) {
	switch d.form.Load() {
	case integer:
		return "0", true
	case uuid:
		return "00000000-0000-0000-0000-000000000000", true
	case text:
		return "-", true
	default:
		return "0", false
	}
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", rune(s[i])) {
				return false
			}
		}
	}
	return true
}
