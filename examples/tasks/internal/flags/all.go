package flags

import (
	"context"

	"github.com/open-feature/go-sdk/openfeature"
)

// State is what a flag is for a user.
type State struct {
	Key         string                `json:"key"`
	Description string                `json:"description,omitempty"`
	Type        Kind                  `json:"type" enum:"boolean,string,integer,float,object"`
	Value       any                   `json:"value,omitempty" doc:"Absent after an error, and for a disabled flag: the program's own default holds"`
	Variant     string                `json:"variant,omitempty"`
	Reason      openfeature.Reason    `json:"reason" doc:"As OpenFeature says: STATIC, TARGETING_MATCH, SPLIT, DISABLED or ERROR"`
	Error       openfeature.ErrorCode `json:"error,omitempty" doc:"As OpenFeature says, such as TARGETING_KEY_MISSING"`
}

// All evaluates all flags for a user of the context's tenant, sorted by key.
func (f *Flags) All(ctx context.Context, user string) []State {
	all := make([]State, 0, len(f.set.keys))
	for _, key := range f.set.keys {
		definition := f.set.byKey[key]
		e := f.evaluate(ctx, key, user)
		detail := e.detail.ResolutionDetail()
		all = append(all, State{key, definition.Description, definition.kind, e.value, e.detail.Variant, e.detail.Reason, detail.ErrorCode})
	}
	return all
}
