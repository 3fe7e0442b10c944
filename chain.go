package tenancy

import (
	"reflect"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"

	"github.com/gormtenancy/tenancy/internal/private"
)

// chain is the sequence of callbacks for one kind of statement, from the plugin's callback before the transaction to GORM's
// commit. If it holds only callbacks of GORM and of this plugin, no other plugin can send a statement in the transaction.
//
// The callbacks are read from an unexported field of GORM's processor, because GORM has no method that lists them. If the
// processor is not known, the chain does not count as GORM's alone, and the transaction stays.
type chain struct {
	op   string
	fns  private.Callbacks // of the processor, in the order in which it calls them
	want []uintptr         // the code of those that may stand there
}

// chainNames are the callbacks that may stand there, in order.
var chainNames = map[string][]string{
	"create": {
		"tenancy:create", "gorm:begin_transaction", "gorm:before_create", "tenancy:check_hooks", "gorm:save_before_associations",
		"tenancy:check_create", "gorm:create", "gorm:save_after_associations", "gorm:after_create", "tenancy:before_commit",
		"gorm:commit_or_rollback_transaction",
	},
	"update": {
		"tenancy:update", "gorm:begin_transaction", "gorm:setup_reflect_value", "gorm:before_update", "tenancy:check_hooks",
		"gorm:save_before_associations", "tenancy:check_update", "gorm:update", "gorm:save_after_associations", "gorm:after_update",
		"tenancy:before_commit", "gorm:commit_or_rollback_transaction",
	},
	"delete": {
		"tenancy:delete", "gorm:begin_transaction", "gorm:before_delete", "tenancy:check_hooks", "gorm:delete_before_associations",
		"tenancy:check_delete", "gorm:delete", "gorm:after_delete", "tenancy:before_commit", "gorm:commit_or_rollback_transaction",
	},
}

// of makes c the chain of a processor on which the plugin has just registered its callbacks.
func (c *chain) of(on processor) {
	reference := referenceOf(c.op)
	for _, name := range chainNames[c.op] {
		fn := reference.Get(name)
		if strings.HasPrefix(name, "tenancy:") {
			fn = on.get(name)
		}
		if fn == nil {
			return
		}
		c.want = append(c.want, reflect.ValueOf(fn).Pointer())
	}
	c.fns = private.CallbacksOf[gorm.DB](on.gorm)
}

// isGORMs reports whether the callbacks are exactly the expected ones now: others can be registered, replaced and removed at any
// time.
func (c *chain) isGORMs() bool {
	if !c.fns.Known() {
		return false
	}
	n := c.fns.Len()
	for i := range n {
		if c.fns.Code(i) != c.want[0] {
			continue
		}
		if n-i < len(c.want) {
			return false
		}
		for k, want := range c.want {
			if c.fns.Code(i+k) != want {
				return false
			}
		}
		return true
	}
	return false
}

// getter is a processor of GORM.
type getter interface{ Get(string) func(*gorm.DB) }

// referenceOf returns a processor that has GORM's callbacks and no others.
func referenceOf(op string) getter {
	db, err := reference()
	if err != nil {
		return noCallbacks{}
	}
	switch op {
	case "create":
		return db.Callback().Create()
	case "update":
		return db.Callback().Update()
	default:
		return db.Callback().Delete()
	}
}

var reference = sync.OnceValues(func() (*gorm.DB, error) {
	return gorm.Open(referenceDialector{}, &gorm.Config{DisableAutomaticPing: true})
})

// referenceDialector registers GORM's callbacks, as every dialect does, and connects to nothing.
type referenceDialector struct{ gorm.Dialector }

func (referenceDialector) Name() string { return "reference" }

func (referenceDialector) Initialize(db *gorm.DB) error {
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{})
	return nil
}

type noCallbacks struct{}

func (noCallbacks) Get(string) func(*gorm.DB) { return nil }
