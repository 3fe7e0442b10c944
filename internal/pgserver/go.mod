module github.com/gormtenancy/tenancy/internal/pgserver

go 1.25.0
