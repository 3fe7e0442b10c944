package tenanthttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp"
)

// request makes a request as the server sees it, changed by the functions.
func request(change ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://example.com/", nil)
	for _, c := range change {
		c(r)
	}
	return r
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, v := range values {
			r.Header.Add(name, v)
		}
	}
}

// names are values that a client can put where a tenant's name is expected.
var names = []struct {
	value  string
	tenant string
	err    error
}{
	{value: "acme", tenant: "acme"},
	{value: "Acme", tenant: "Acme"},
	{value: "42", tenant: "42"},
	{value: "0b9e7c1a-0d0c-4a5e-9d5c-2f1b1c1d1e1f", tenant: "0b9e7c1a-0d0c-4a5e-9d5c-2f1b1c1d1e1f"},
	{value: "ops@acme.example:eu_1~2", tenant: "ops@acme.example:eu_1~2"},
	{value: strings.Repeat("a", 128), tenant: strings.Repeat("a", 128)},
	{value: "", err: tenanthttp.ErrNoTenant},
	{value: " ", err: tenanthttp.ErrMalformed},
	{value: "..", err: tenanthttp.ErrMalformed},
	{value: ".", err: tenanthttp.ErrMalformed},
	{value: "a..b", err: tenanthttp.ErrMalformed},
	{value: "acme.", err: tenanthttp.ErrMalformed},
	{value: "-acme", err: tenanthttp.ErrMalformed},
	{value: "../acme", err: tenanthttp.ErrMalformed},
	{value: "acme,globex", err: tenanthttp.ErrMalformed},
	{value: "acme globex", err: tenanthttp.ErrMalformed},
	{value: "acme'; --", err: tenanthttp.ErrMalformed},
	{value: "acme\x00", err: tenanthttp.ErrMalformed},
	{value: "acme\n", err: tenanthttp.ErrMalformed},
	{value: "Zürich", err: tenanthttp.ErrMalformed},
	{value: "\xff\xfe", err: tenanthttp.ErrMalformed},
	{value: strings.Repeat("a", 129), err: tenanthttp.ErrMalformed},
	{value: strings.Repeat("a", 10<<10), err: tenanthttp.ErrMalformed},
}

// TestNames puts each name into each place where a client can write one.
func TestNames(t *testing.T) {
	places := map[string]func(value string) (string, error){
		"header": func(value string) (string, error) {
			return tenanthttp.Header("X-Tenant-ID")(request(header("x-tenant-id", value)))
		},
		"path": func(value string) (string, error) {
			return tenanthttp.PathValue("tenant")(request(func(r *http.Request) { r.SetPathValue("tenant", value) }))
		},
		"session": func(value string) (string, error) {
			return tenanthttp.Func(func(*http.Request) string { return value })(request())
		},
	}
	for place, resolve := range places {
		for _, test := range names {
			tenant, err := resolve(test.value)
			require.ErrorIs(t, err, test.err, "%s %.20q", place, test.value)
			require.Equal(t, test.tenant, tenant, "%s %.20q", place, test.value)
		}
	}
}

func TestHeader(t *testing.T) {
	resolve := tenanthttp.Header("X-Tenant-ID")

	_, err := resolve(request())
	require.ErrorIs(t, err, tenanthttp.ErrNoTenant, "absent")
	_, err = resolve(request(header("X-Tenant-ID", "acme", "globex")))
	require.ErrorIs(t, err, tenanthttp.ErrMalformed, "repeated")
	_, err = resolve(request(header("X-Tenant-ID", "acme", "acme")))
	require.ErrorIs(t, err, tenanthttp.ErrMalformed, "repeated, the same")
	_, err = resolve(request(header("X-Tenant-ID", "", "acme")))
	require.ErrorIs(t, err, tenanthttp.ErrMalformed, "the first is empty")
}

func TestCookie(t *testing.T) {
	resolve := tenanthttp.Cookie("tenant")
	for _, test := range []struct {
		cookies string
		tenant  string
		err     error
	}{
		{cookies: "tenant=acme", tenant: "acme"},
		{cookies: `tenant="acme"`, tenant: "acme"},
		{cookies: "other=globex; tenant=acme", tenant: "acme"},
		{cookies: "", err: tenanthttp.ErrNoTenant},
		{cookies: "tenant=", err: tenanthttp.ErrNoTenant},
		{cookies: "Tenant=acme", err: tenanthttp.ErrNoTenant},
		{cookies: "tenant=acme; tenant=globex", err: tenanthttp.ErrMalformed},
		{cookies: "tenant=../acme", err: tenanthttp.ErrMalformed},
	} {
		tenant, err := resolve(request(header("Cookie", test.cookies)))
		require.ErrorIs(t, err, test.err, test.cookies)
		require.Equal(t, test.tenant, tenant, test.cookies)
	}
}

// TestPathValue goes through a real router: inside of the route there is a value, around it there is none.
func TestPathValue(t *testing.T) {
	resolve := tenanthttp.PathValue("tenant")
	var tenant string
	var err error
	mux := http.NewServeMux()
	mux.HandleFunc("/t/{tenant}/orders", func(_ http.ResponseWriter, r *http.Request) { tenant, err = resolve(r) })

	for _, test := range []struct {
		path, tenant string
		err          error
	}{
		{path: "/t/acme/orders", tenant: "acme"},
		{path: "/t/%61cme/orders", tenant: "acme"},
		{path: "/t/%2e%2e/orders", err: tenanthttp.ErrMalformed},
		{path: "/t/acme%2Fglobex/orders", err: tenanthttp.ErrMalformed},
		{path: "/t/acme%00/orders", err: tenanthttp.ErrMalformed},
	} {
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, test.path, nil))
		require.ErrorIs(t, err, test.err, test.path)
		require.Equal(t, test.tenant, tenant, test.path)
	}

	_, err = resolve(httptest.NewRequest(http.MethodGet, "/t/acme/orders", nil))
	require.ErrorIs(t, err, tenanthttp.ErrNoTenant, "around the router")
}

// answer is a resolver that answers the same to every request.
func answer(tenant string, err error) tenanthttp.Resolver {
	return func(*http.Request) (string, error) { return tenant, err }
}

func TestFirstOf(t *testing.T) {
	boom := errors.New("boom")
	none := answer("", tenanthttp.ErrNoTenant)
	for name, test := range map[string]struct {
		of     []tenanthttp.Resolver
		tenant string
		err    error
	}{
		"nothing":            {err: tenanthttp.ErrNoTenant},
		"the first":          {of: []tenanthttp.Resolver{answer("acme", nil), answer("globex", nil)}, tenant: "acme"},
		"the second":         {of: []tenanthttp.Resolver{none, answer("globex", nil)}, tenant: "globex"},
		"none":               {of: []tenanthttp.Resolver{none, none}, err: tenanthttp.ErrNoTenant},
		"garbage ends it":    {of: []tenanthttp.Resolver{answer("", tenanthttp.ErrMalformed), answer("globex", nil)}, err: tenanthttp.ErrMalformed},
		"an unknown ends it": {of: []tenanthttp.Resolver{answer("", tenanthttp.ErrUnknownTenant), answer("globex", nil)}, err: tenanthttp.ErrUnknownTenant},
		"an error ends it":   {of: []tenanthttp.Resolver{none, answer("", boom), answer("globex", nil)}, err: boom},
	} {
		tenant, err := tenanthttp.FirstOf(test.of...)(request())
		require.ErrorIs(t, err, test.err, name)
		require.Equal(t, test.tenant, tenant, name)
	}
}

func TestCrossCheck(t *testing.T) {
	boom := errors.New("boom")
	acme, globex := answer("acme", nil), answer("globex", nil)
	none, unknown := answer("", tenanthttp.ErrNoTenant), answer("", tenanthttp.ErrUnknownTenant)
	noToken, garbage := answer("", tenanthttp.ErrUnauthenticated), answer("", tenanthttp.ErrMalformed)
	for name, test := range map[string]struct {
		of     []tenanthttp.Resolver
		tenant string
		err    error
	}{
		"nothing":                    {err: tenanthttp.ErrNoTenant},
		"one":                        {of: []tenanthttp.Resolver{acme}, tenant: "acme"},
		"agree":                      {of: []tenanthttp.Resolver{acme, acme, acme}, tenant: "acme"},
		"disagree":                   {of: []tenanthttp.Resolver{acme, globex}, err: tenanthttp.ErrForbidden},
		"the last disagrees":         {of: []tenanthttp.Resolver{acme, acme, globex}, err: tenanthttp.ErrForbidden},
		"the first disagrees":        {of: []tenanthttp.Resolver{globex, acme, acme}, err: tenanthttp.ErrForbidden},
		"the first names none":       {of: []tenanthttp.Resolver{none, acme}, err: tenanthttp.ErrNoTenant},
		"the last names none":        {of: []tenanthttp.Resolver{acme, none}, err: tenanthttp.ErrNoTenant},
		"unknown, and no token":      {of: []tenanthttp.Resolver{unknown, noToken}, err: tenanthttp.ErrUnauthenticated},
		"disagree, and no token":     {of: []tenanthttp.Resolver{acme, globex, noToken}, err: tenanthttp.ErrUnauthenticated},
		"garbage, and no token":      {of: []tenanthttp.Resolver{noToken, garbage}, err: tenanthttp.ErrMalformed},
		"the server's error is said": {of: []tenanthttp.Resolver{garbage, answer("", boom)}, err: boom},
		"unknown, and another's":     {of: []tenanthttp.Resolver{unknown, globex}, err: tenanthttp.ErrUnknownTenant},
	} {
		tenant, err := tenanthttp.CrossCheck(test.of...)(request())
		require.ErrorIs(t, err, test.err, name)
		require.Equal(t, test.tenant, tenant, name)
	}
}

// TestLookupAsksOnlyForNames counts the lookups: garbage makes none.
func TestLookupAsksOnlyForNames(t *testing.T) {
	var asked []string
	lookup := tenanthttp.FinderFunc(func(_ context.Context, name string) (string, error) {
		asked = append(asked, name)
		switch name {
		case "acme":
			return "7", nil
		case "empty":
			return "", nil
		default:
			return "", tenanthttp.ErrUnknownTenant
		}
	})
	resolve := tenanthttp.Lookup(tenanthttp.Header("X-Tenant"), lookup)

	tenant, err := resolve(request(header("X-Tenant", "acme")))
	require.NoError(t, err)
	require.Equal(t, "7", tenant)
	for _, name := range []string{"nobody", "empty"} {
		_, err = resolve(request(header("X-Tenant", name)))
		require.ErrorIs(t, err, tenanthttp.ErrUnknownTenant, name)
	}
	require.Equal(t, []string{"acme", "nobody", "empty"}, asked)

	for _, test := range names {
		if test.err != nil {
			_, err = resolve(request(header("X-Tenant", test.value)))
			require.ErrorIs(t, err, test.err)
		}
	}
	require.Len(t, asked, 3)
}
