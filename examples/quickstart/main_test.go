package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/readme"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

// TestReadme starts the quickstart as the README says, sends the requests that it prints, and compares all with what
// the README shows.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	shown := regexp.MustCompile(`(?m)^\$ (curl .*)\n(.*)$`).FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, shown, "curl lines in README.md")

	addr, commands := startProgram(t)
	port := addr[strings.LastIndex(addr, ":"):]
	require.Len(t, commands, len(shown), "as many requests printed as shown")
	for i, command := range commands {
		require.Equal(t, shown[i][1], strings.ReplaceAll(command, port, ":8080"))
		require.Equal(t, shown[i][2], curl(t, command))
	}
}

// TestBadRequests touches nothing.
func TestBadRequests(t *testing.T) {
	addr, _ := startProgram(t)
	for name, headers := range map[string]http.Header{
		"no tenant":       {},
		"empty tenant":    {"X-Tenant-Id": {""}},
		"two tenants":     {"X-Tenant-Id": {"acme", "globex"}},
		"upper case":      {"X-Tenant-Id": {"ACME"}},
		"SQL":             {"X-Tenant-Id": {"acme' OR '1'='1"}},
		"path":            {"X-Tenant-Id": {"../acme"}},
		"not ASCII":       {"X-Tenant-Id": {"acmé"}},
		"very long":       {"X-Tenant-Id": {strings.Repeat("a", 10_000)}},
		"list of tenants": {"X-Tenant-Id": {"acme,globex"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				status, body := send(t, method, "http://"+addr+"/users", headers, `{"name":"Eve"}`)
				require.Equal(t, http.StatusBadRequest, status)
				require.JSONEq(t, `{"error":"send one X-Tenant-Id header of lower-case letters, digits and hyphens"}`, body)
			}
		})
	}
	for _, body := range []string{``, `{`, `[]`, `{"name":""}`, `{"name":7}`, `{"name":"` + strings.Repeat("a", 1<<17) + `"}`} {
		status, _ := send(t, http.MethodPost, "http://"+addr+"/users", http.Header{"X-Tenant-Id": {"acme"}}, body)
		require.Equal(t, http.StatusBadRequest, status)
	}
	status, body := send(t, http.MethodPost, "http://"+addr+"/users", http.Header{"X-Tenant-Id": {"acme"}},
		`{"name":"Ann","tenant":"globex","TenantID":"globex","id":99}`)
	require.Equal(t, http.StatusCreated, status)
	require.JSONEq(t, `{"id":1,"tenant":"acme","name":"Ann"}`, body, "only the name is taken from the body")
}

func TestLogShowsNoValues(t *testing.T) {
	program := readme.Start(t)
	status, body := send(t, http.MethodPost, "http://"+program.Addr+"/users", http.Header{"X-Tenant-Id": {"acme"}}, `{"name":"secret\u0000"}`)
	require.Equal(t, http.StatusInternalServerError, status)
	require.JSONEq(t, `{"error":"internal error"}`, body)
	require.Eventually(t, func() bool { return program.Log() != "" }, 10*time.Second, 5*time.Millisecond)
	require.Contains(t, program.Log(), "SQLSTATE 22021")
	require.NotContains(t, program.Log(), "secret")
}

// startProgram runs the program, and returns its address and the commands it prints.
func startProgram(t *testing.T) (addr string, commands []string) {
	t.Helper()
	program := readme.Start(t)
	for line := range strings.Lines(program.Said) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			commands = append(commands, line)
		}
	}
	return program.Addr, commands
}

// curl does what the command of that name would, as far as the quickstart uses it.
func curl(t *testing.T, command string) string {
	t.Helper()
	words := regexp.MustCompile(`'[^']*'|\S+`).FindAllString(command, -1)
	for i, w := range words {
		words[i] = strings.Trim(w, "'")
	}
	method, headers, body, url := http.MethodGet, http.Header{}, "", ""
	for i := 1; i < len(words); i++ {
		switch words[i] {
		case "-s":
		case "-X":
			i++
			method = words[i]
		case "-H":
			i++
			key, value, _ := strings.Cut(words[i], ": ")
			headers.Add(key, value)
		case "-d":
			i++
			body = words[i]
		default:
			url = words[i]
		}
	}
	_, answer := send(t, method, url, headers, body)
	return strings.TrimSpace(answer)
}

func send(t *testing.T, method, url string, headers http.Header, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header = headers.Clone()
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"), fmt.Sprintf("%s %s", method, url))
	return resp.StatusCode, string(all)
}

// TestMigrateAgain changes nothing, and finds nothing.
func TestMigrateAgain(t *testing.T) {
	database := pgserver.New(t)
	require.NoError(t, migrate(t.Context(), database))
	owner, err := demo.Connect(database.Owner.DSN)
	require.NoError(t, err)
	defer func() { require.NoError(t, demo.Disconnect(owner)) }()
	result, err := rls.Isolation{AppRole: database.App.Role}.Migrate(t.Context(), owner, &User{})
	require.NoError(t, err)
	require.Empty(t, result.Changes)
	require.Empty(t, result.Findings)
}
