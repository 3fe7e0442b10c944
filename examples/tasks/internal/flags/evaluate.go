package flags

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"github.com/open-feature/go-sdk/openfeature"

	"github.com/gormtenancy/tenancy"
)

// evaluation is the outcome for one flag, in OpenFeature's terms.
type evaluation struct {
	value  any // nil means the caller's default
	detail openfeature.ProviderResolutionDetail
}

func failed(err openfeature.ResolutionError) evaluation {
	return evaluation{detail: openfeature.ProviderResolutionDetail{Reason: openfeature.ErrorReason, ResolutionError: err}}
}

// evaluate decides a flag for a user of the context's tenant. The user may be empty.
func (f *Flags) evaluate(ctx context.Context, flag, user string) evaluation {
	definition, ok := f.set.byKey[flag]
	if !ok {
		return failed(openfeature.NewFlagNotFoundResolutionError("there is no such flag"))
	}
	tenant, ok := tenancy.TenantFromContext(ctx)
	if !ok || tenant == "" {
		return failed(openfeature.NewInvalidContextResolutionError("flags are evaluated for a tenant, and the context has none"))
	}
	overrides, err := f.snapshot(ctx)
	if err != nil { // its text may quote a statement
		return failed(openfeature.NewGeneralResolutionError("the overrides of the tenant cannot be read", err))
	}
	return definition.decide(overrides, tenant, user)
}

func (d Definition) decide(overrides snapshot, tenant, user string) evaluation {
	if d.Disabled {
		return evaluation{detail: openfeature.ProviderResolutionDetail{Reason: openfeature.DisabledReason}}
	}
	if o, ok := overrides[overrideKey{d.Key, user}]; ok && user != "" {
		return d.choose(o.Variant, openfeature.TargetingMatchReason)
	}
	if o, ok := overrides[overrideKey{d.Key, ""}]; ok {
		if o.Percent == 100 {
			return d.choose(o.Variant, openfeature.TargetingMatchReason)
		}
		if user == "" {
			return failed(errNoUser)
		}
		if isAmong(o.Percent, d.Key, tenant, user) {
			return d.choose(o.Variant, openfeature.SplitReason)
		}
	}
	if r := d.Rollout; r != nil {
		if r.By == Tenants {
			user = ""
		} else if user == "" {
			return failed(errNoUser)
		}
		if isAmong(r.Percent, d.Key, tenant, user) {
			return d.choose(r.Variant, openfeature.SplitReason)
		}
		return d.choose(d.Default, openfeature.SplitReason)
	}
	return d.choose(d.Default, openfeature.StaticReason)
}

var errNoUser = openfeature.NewTargetingKeyMissingResolutionError("the flag is given to a part of the users: name one as the targeting key")

func (d Definition) choose(variant string, reason openfeature.Reason) evaluation {
	value, ok := d.Variants[variant]
	if !ok {
		return failed(openfeature.NewParseErrorResolutionError("an override names a variant that the flag no longer has: clear it"))
	}
	return evaluation{value, openfeature.ProviderResolutionDetail{Variant: variant, Reason: reason}}
}

// isAmong reports whether a user is in this percentage of a flag. The place of a user depends on nothing else, so that a higher percentage
// holds all of a lower one, and it differs from flag to flag and from tenant to tenant.
func isAmong(percent int, flag, tenant, user string) bool {
	var text []byte
	for _, part := range []string{flag, tenant, user} {
		text = binary.AppendUvarint(text, uint64(len(part)))
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	return binary.BigEndian.Uint64(sum[:])%10_000 < uint64(percent)*100
}
