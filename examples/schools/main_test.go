package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/readme"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func TestReadme(t *testing.T) {
	program := readme.Start(t)
	program.Check(t, "README.md")
	require.Contains(t, program.Said, "curl -s http://hogwarts.localhost:")
}

const (
	harry = `[{"id":1,"name":"Harry"}]`
	yara  = `[{"id":2,"name":"Yara"}]`

	malformed, notFound = http.StatusBadRequest, http.StatusNotFound
)

var hostileRequests = map[string]struct {
	method, host, path, body string
	header                   http.Header
	status                   int
	answer                   string // checked if it is not empty
}{
	"another's id":              {host: "castelobruxo.localhost", path: "/students/1", status: notFound},
	"id that never was":         {host: "castelobruxo.localhost", path: "/students/99", status: notFound},
	"SQL for an id":             {host: "castelobruxo.localhost", path: "/students/1%20OR%20true", status: notFound},
	"huge id":                   {host: "castelobruxo.localhost", path: "/students/99999999999999999999", status: notFound},
	"forged X-Forwarded-Host":   {host: "castelobruxo.localhost", header: http.Header{"X-Forwarded-Host": {"hogwarts.localhost"}}, status: 200, answer: yara},
	"forged Forwarded":          {host: "castelobruxo.localhost", header: http.Header{"Forwarded": {"host=hogwarts.localhost"}}, status: 200, answer: yara},
	"forged X-Tenant-Id":        {host: "castelobruxo.localhost", header: http.Header{"X-Tenant-Id": {"1"}}, status: 200, answer: yara},
	"tenant in the query":       {host: "castelobruxo.localhost", path: "/students?tenant_id=1&school=hogwarts", status: 200, answer: yara},
	"upper case, port and dot":  {host: "HogWarts.localhost.:80", status: 200, answer: harry},
	"unknown school":            {host: "durmstrang.localhost", status: notFound},
	"id for a subdomain":        {host: "1.localhost", status: notFound},
	"SQL for a subdomain":       {host: "x'or'1'='1.localhost", status: malformed},
	"wildcard for a subdomain":  {host: "%.localhost", status: malformed},
	"two labels":                {host: "hogwarts.castelobruxo.localhost", status: malformed},
	"no school":                 {host: "localhost", status: malformed},
	"reserved label":            {host: "www.localhost", status: malformed},
	"another domain":            {host: "hogwarts.localhost.example.com", status: malformed},
	"IP address":                {host: "127.0.0.1", status: malformed},
	"very long host":            {host: strings.Repeat("a", 10_000) + ".localhost", status: malformed},
	"tenant in the body":        {method: "POST", host: "hogwarts.localhost", body: `{"name":"Eve","tenant_id":2}`, status: malformed},
	"tenant as Go spells it":    {method: "POST", host: "hogwarts.localhost", body: `{"name":"Eve","TenantID":2}`, status: malformed},
	"whole school in the body":  {method: "POST", host: "hogwarts.localhost", body: `{"name":"Eve","School":{"ID":2,"Slug":"x"}}`, status: malformed},
	"id in the body":            {method: "POST", host: "hogwarts.localhost", body: `{"name":"Eve","id":2}`, status: malformed},
	"no name":                   {method: "POST", host: "hogwarts.localhost", body: `{"name":" "}`, status: malformed},
	"NUL in the name":           {method: "POST", host: "hogwarts.localhost", body: `{"name":"a\u0000b"}`, status: malformed},
	"long name":                 {method: "POST", host: "hogwarts.localhost", body: `{"name":"` + strings.Repeat("a", 101) + `"}`, status: malformed},
	"huge body":                 {method: "POST", host: "hogwarts.localhost", body: `{"name":"` + strings.Repeat("a", 1<<17) + `"}`, status: http.StatusRequestEntityTooLarge},
	"POST to an unknown school": {method: "POST", host: "durmstrang.localhost", body: `{"name":"Eve"}`, status: notFound},
	"DELETE":                    {method: "DELETE", host: "hogwarts.localhost", path: "/students/1", status: http.StatusMethodNotAllowed},
}

// TestHostileRequests: no request reads, changes or adds anything at another school.
func TestHostileRequests(t *testing.T) {
	s := start(t)
	s.enrol(t, "hogwarts", "Harry")
	s.enrol(t, "castelobruxo", "Yara")

	for name, c := range hostileRequests {
		t.Run(name, func(t *testing.T) {
			if c.path == "" {
				c.path = "/students"
			}
			status, answer := s.send(t, c.method, c.host, c.path, c.body, c.header)
			require.Equal(t, c.status, status, answer)
			if c.answer != "" {
				require.JSONEq(t, c.answer, answer)
			} else {
				require.NotContains(t, answer, "Harry")
				require.NotContains(t, answer, "Yara")
			}
		})
	}
	_, list := s.send(t, "", "hogwarts.localhost", "/students", "", nil)
	require.JSONEq(t, harry, list)
	_, list = s.send(t, "", "castelobruxo.localhost", "/students", "", nil)
	require.JSONEq(t, yara, list)
}

// TestSchoolsAreReadOnly: not even a bug in the application can add a school.
func TestSchoolsAreReadOnly(t *testing.T) {
	database := pgserver.New(t)
	require.NoError(t, migrate(t.Context(), database))
	db, err := demo.Connect(database.App.DSN)
	require.NoError(t, err)
	defer demo.Disconnect(db)
	require.ErrorContains(t, db.Create(&School{Slug: "azkaban"}).Error, "permission denied")
	require.ErrorContains(t, db.Where("true").Delete(&School{}).Error, "permission denied")
}

// TestSchoolsAtTheSameTime: requests of all schools share a few connections.
func TestSchoolsAtTheSameTime(t *testing.T) {
	s := start(t)
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			for _, school := range []string{"hogwarts", "castelobruxo", "beauxbatons"} {
				s.enrol(t, school, fmt.Sprintf("%s %d", school, i))
			}
		})
	}
	wg.Wait()
	for _, school := range []string{"hogwarts", "castelobruxo", "beauxbatons"} {
		_, list := s.send(t, "", school+".localhost", "/students", "", nil)
		require.Equal(t, 30, strings.Count(list, `"name"`))
		require.Equal(t, 30, strings.Count(list, `"name":"`+school))
	}
}

type server struct{ *httptest.Server }

func start(t *testing.T) server {
	t.Helper()
	app, err := open(t.Context(), pgserver.New(t))
	require.NoError(t, err)
	s := server{httptest.NewServer(app.Handler)}
	t.Cleanup(func() {
		s.Close()
		require.NoError(t, app.Close())
	})
	return s
}

func (s server) enrol(t *testing.T, school, name string) {
	status, answer := s.send(t, "POST", school+".localhost", "/students", `{"name":"`+name+`"}`, nil)
	if status != http.StatusCreated {
		t.Error(status, answer)
	}
}

func (s server) send(t *testing.T, method, host, path, body string, header http.Header) (status int, answer string) {
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	r.Host = host
	for key, values := range header {
		r.Header[key] = values
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(all)
}

// TestMigrateAgain changes nothing, and finds nothing.
func TestMigrateAgain(t *testing.T) {
	database := pgserver.New(t)
	require.NoError(t, migrate(t.Context(), database))
	owner, err := demo.Connect(database.Owner.DSN)
	require.NoError(t, err)
	defer func() { require.NoError(t, demo.Disconnect(owner)) }()
	result, err := rls.Isolation{AppRole: database.App.Role}.Migrate(t.Context(), owner, &School{}, &Student{})
	require.NoError(t, err)
	require.Empty(t, result.Changes)
	require.Empty(t, result.Findings)
}
