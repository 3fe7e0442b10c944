package tenancy

import "gorm.io/gorm"

// processor is one of GORM's six processors, each of which runs the callbacks of one kind of statement.
type processor struct {
	op            string // the Op of an Error
	gorm          any    // GORM's own
	get           func(name string) func(*gorm.DB)
	before, after func(name string) registrar
}

// registrar is a place among the callbacks of a processor.
type registrar interface {
	Register(name string, fn func(*gorm.DB)) error
	Replace(name string, fn func(*gorm.DB)) error
}

// processors returns GORM's processors of db.
func processors(db *gorm.DB) []processor {
	c := db.Callback()
	return []processor{
		newProcessor("create", c.Create()),
		newProcessor("query", c.Query()),
		newProcessor("update", c.Update()),
		newProcessor("delete", c.Delete()),
		newProcessor("row", c.Row()),
		newProcessor("raw", c.Raw()),
	}
}

// newProcessor takes a processor of GORM, whose type and that of its places, R, are not exported.
func newProcessor[R registrar](op string, p interface {
	Get(name string) func(*gorm.DB)
	Before(name string) R
	After(name string) R
},
) processor {
	return processor{
		op: op, gorm: p, get: p.Get,
		before: func(name string) registrar { return p.Before(name) },
		after:  func(name string) registrar { return p.After(name) },
	}
}

// first returns the first of these names that a callback is registered under, and "" if there is none. GORM leaves out the
// callbacks of its default transaction if that is switched off, and puts a callback last that is to stand before a missing one.
func (p processor) first(names ...string) string {
	for _, name := range names {
		if p.get(name) != nil {
			return name
		}
	}
	return ""
}
