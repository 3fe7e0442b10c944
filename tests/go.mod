module github.com/gormtenancy/tenancy/tests

go 1.25.0

require (
	github.com/gormtenancy/tenancy v0.0.0
	github.com/gormtenancy/tenancy/internal/pgserver v0.0.0
)

replace (
	github.com/gormtenancy/tenancy => ../
	github.com/gormtenancy/tenancy/internal/pgserver => ../internal/pgserver
)
