package testdb

import (
	"context"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy"
)

// Acme and Globex are the usual tenants.
const (
	Acme   = "acme"
	Globex = "globex"
)

// As is the context of a tenant.
func As(tenant string) context.Context { return tenancy.WithTenant(context.Background(), tenant) }

// Modes are the execution modes of pgx.
var Modes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

// ModeName is a mode as default_query_exec_mode in a DSN names it.
func ModeName(mode pgx.QueryExecMode) string { return strings.ReplaceAll(mode.String(), " ", "_") }

// WithParam sets a parameter of a DSN in the form of a URL. It panics if dsn is none.
func WithParam(dsn, name, value string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic("testdb: the DSN is no URL")
	}
	params := u.Query()
	params.Set(name, value)
	u.RawQuery = params.Encode()
	return u.String()
}

// WithLogin is a DSN with another user.
func WithLogin(dsn, user, password string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic("testdb: the DSN is no URL")
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
