package placement

import "errors"

// The errors. They can be told apart with errors.Is, also where the plugin wraps them.
var (
	// ErrMoving is the error of a tenant that is locked out for a moment, because the last of its rows are moved: try again.
	ErrMoving = errors.New("placement: the tenant is being moved to another server: try again in a moment")

	// ErrNoServer is the error of a tenant that has no placement, where there is no default, and of a placement on a server that is not configured.
	ErrNoServer = errors.New("placement: the tenant has no server")

	// ErrOtherDatabase is the error of a run in which the name of a server leads to another database than it did when the tenant was moved, as
	// where two DSNs are swapped. Nothing was changed.
	ErrOtherDatabase = errors.New("placement: the name of a server leads to another database than when the tenant was moved")

	// ErrOtherCatalog is the error of a run if another server than the catalog's has placements, so that applications may read those. Nothing
	// was changed.
	ErrOtherCatalog = errors.New("placement: another server has placements too")

	// ErrCatalog is the error where the placement of a tenant cannot be read, or not in time. The tenant's statements are refused.
	ErrCatalog = errors.New("placement: the placement of the tenant cannot be read")

	// ErrState is the error of a step that does not fit what the tenant's placement says, such as a move to where it lives.
	ErrState = errors.New("placement: the tenant's placement does not allow this")

	// ErrLockedOut is the error of a move that was backed out because the tenant would have been locked out for too long. The tenant works where it did.
	ErrLockedOut = errors.New("placement: the tenant would be locked out for too long")

	// ErrNotEqual is the error of a move whose rows at the target do not become those of the source: a trigger or a policy changes or drops them.
	ErrNotEqual = errors.New("placement: the rows at the target do not become those of the source")
)
