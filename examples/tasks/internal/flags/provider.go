package flags

import (
	"context"
	"maps"

	"github.com/open-feature/go-sdk/openfeature"
)

// Provider is the Flags as OpenFeature's SDK wants them.
func (f *Flags) Provider() openfeature.FeatureProvider { return provider{f} }

type provider struct{ flags *Flags }

// Metadata names the provider.
func (provider) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "tenant-tables"} }

// Hooks returns none.
func (provider) Hooks() []openfeature.Hook { return nil }

// BooleanEvaluation evaluates a flag of Bool.
func (p provider) BooleanEvaluation(ctx context.Context, flag string, def bool, user openfeature.FlattenedContext) openfeature.BoolResolutionDetail {
	return resolve(ctx, p.flags, flag, def, user)
}

// StringEvaluation evaluates a flag of String.
func (p provider) StringEvaluation(ctx context.Context, flag, def string, user openfeature.FlattenedContext) openfeature.StringResolutionDetail {
	return resolve(ctx, p.flags, flag, def, user)
}

// FloatEvaluation evaluates a flag of Float.
func (p provider) FloatEvaluation(ctx context.Context, flag string, def float64, user openfeature.FlattenedContext) openfeature.FloatResolutionDetail {
	return resolve(ctx, p.flags, flag, def, user)
}

// IntEvaluation evaluates a flag of Int.
func (p provider) IntEvaluation(ctx context.Context, flag string, def int64, user openfeature.FlattenedContext) openfeature.IntResolutionDetail {
	return resolve(ctx, p.flags, flag, def, user)
}

// ObjectEvaluation evaluates a flag of Object. The value is the caller's to change.
func (p provider) ObjectEvaluation(ctx context.Context, flag string, def any, user openfeature.FlattenedContext) openfeature.InterfaceResolutionDetail {
	var none map[string]any
	found := resolve(ctx, p.flags, flag, none, user)
	detail := openfeature.InterfaceResolutionDetail{Value: def, ProviderResolutionDetail: found.ProviderResolutionDetail}
	if found.Value != nil {
		detail.Value = found.Value
	}
	return detail
}

// resolve evaluates a flag as a T. It returns the caller's default after an error, and for a flag of another type.
func resolve[T any](ctx context.Context, f *Flags, flag string, def T, of openfeature.FlattenedContext) openfeature.GenericResolutionDetail[T] {
	user, _ := of[openfeature.TargetingKey].(string)
	e := f.evaluate(ctx, flag, user)
	detail := openfeature.GenericResolutionDetail[T]{Value: def, ProviderResolutionDetail: e.detail}
	if e.value == nil {
		return detail
	}
	value, ok := e.value.(T)
	if !ok {
		detail.ProviderResolutionDetail = failed(openfeature.NewTypeMismatchResolutionError("the flag has another type")).detail
		return detail
	}
	if object, ok := any(value).(map[string]any); ok {
		value = any(copyOf(object)).(T)
	}
	detail.Value = value
	return detail
}

// copyOf copies an object with the objects and lists in it: the definition is shared by all tenants.
func copyOf(object map[string]any) map[string]any {
	c := maps.Clone(object)
	for name, value := range c {
		c[name] = copyValue(value)
	}
	return c
}

func copyValue(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return copyOf(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = copyValue(v[i])
		}
		return list
	default:
		return v
	}
}
