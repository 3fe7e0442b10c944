package docs

import (
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGettingStarted creates the roles, runs the program and sends the requests of docs/getting-started.md, and reads the table as
// the application and as the owner.
func TestGettingStarted(t *testing.T) {
	started := readPage(t, "docs/getting-started.md")
	script, program := started.program(t)
	s := newShop(t)
	s.execute(t, script)

	free, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	folder := t.TempDir()
	file, binary := filepath.Join(folder, "main.go"), filepath.Join(folder, "shop")
	program = strings.ReplaceAll(s.rename(program), "localhost:8080", address)
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = append(os.Environ(), "OWNER_DSN="+s.dsnOf(t, "shop_owner"), "APP_DSN="+s.dsnOf(t, "shop_app"))
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond)

	ask := func(tenant, text string) (answer string, code int) {
		t.Helper()
		method, body := http.MethodGet, io.Reader(nil)
		if text != "" {
			method, body = http.MethodPost, strings.NewReader(url.Values{"text": {text}}.Encode())
		}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+"/notes", body)
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if tenant != "" {
			r.Header.Set("X-Tenant-Id", tenant)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		read, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(read), response.StatusCode
	}
	for _, request := range [][2]string{{"acme", "hello"}, {"acme", ""}, {"globex", ""}} {
		answer, code := ask(request[0], request[1])
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, started.text, "\n"+answer)
	}
	_, code := ask("", "")
	require.Equal(t, http.StatusBadRequest, code)

	count := "SELECT count(*) FROM notes"
	require.Equal(t, "0", s.value(t, "shop_app", count))
	require.Equal(t, "1", s.value(t, "shop_app", "SET app.tenant_id = 'acme'; "+count))
	require.Equal(t, "0", s.value(t, "shop_owner", count))
}
