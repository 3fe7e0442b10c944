package signing_test

import (
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/clock"
)

// rotation replaces keys, as an operator does: each method is a step of docs/injection.md.
type rotation interface {
	add(id string) (key string) // as the application reads it
	retire(id string)
}

// byCommand works with the command tenancy.
type byCommand struct {
	t           *testing.T
	binary, dsn string
}

func (r byCommand) run(args ...string) {
	cmd := exec.CommandContext(r.t.Context(), r.binary, append([]string{"keys"}, args...)...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+r.dsn)
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, string(out))
}

func (r byCommand) add(id string) string {
	file := filepath.Join(r.t.TempDir(), id)
	r.run("add", "--id", id, "--to", file)
	text, err := os.ReadFile(file)
	require.NoError(r.t, err)
	return string(text)
}

func (r byCommand) retire(id string) { r.run("retire", "--id", id, "--proof-lifetime", "1m") }

// byHand works with the functions.
type byHand struct {
	t *testing.T
	d walled
}

func (r byHand) add(id string) (key string) {
	r.d.asSigner(r.t, func(conn *pgx.Conn) {
		require.NoError(r.t, conn.QueryRow(r.t.Context(), `SELECT tenancy_signed.generate_key($1)`, id).Scan(&key))
	})
	return key
}

func (r byHand) retire(id string) {
	r.d.asSigner(r.t, func(conn *pgx.Conn) {
		_, err := conn.Exec(r.t.Context(), `SELECT tenancy_signed.retire_key($1, '1 minute')`, id)
		require.NoError(r.t, err)
	})
}

// TestRotationByOperators loses no statement: keys are replaced twice while statements run, by the command and by hand.
func TestRotationByOperators(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "tenancy")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = filepath.FromSlash("../../cmd/tenancy") // a module of its own
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	d := newWalled(t, true)
	file := filepath.Join(t.TempDir(), "keys")
	keep := func(keys ...string) {
		var text string
		for _, key := range keys {
			text += key + "\n"
		}
		require.NoError(t, os.WriteFile(file+".new", []byte(text), 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
	first := "one:" + base64.StdEncoding.EncodeToString(secretOf('a'))
	keep(first)
	cfg := d.config(t)
	cfg.SigningKeys, cfg.ProofLifetime = tenancy.SigningKeysFromFile(file), time.Minute
	db, err := d.open(t, cfg)
	require.NoError(t, err)

	after := readMeanwhile(t, db)
	old, oldKey := "one", first
	for n, by := range []rotation{byCommand{t, binary, d.Owner.DSN}, byHand{t, d}, byCommand{t, binary, d.Owner.DSN}} {
		id := []string{"two", "three", "four"}[n]
		key := by.add(id)
		after(50)
		keep(oldKey, key)
		clock.Advance(2 * time.Minute) // the keys are read again
		require.Eventually(t, func() bool { return signedBy(t, db) == id }, time.Minute, time.Millisecond)
		after(200)
		d.asSigner(t, func(conn *pgx.Conn) { // the time that an operator waits
			_, err := conn.Exec(t.Context(), `UPDATE tenancy_signed.keys SET created_at = created_at - interval '4 minutes'`)
			require.NoError(t, err)
		})
		by.retire(old)
		keep(key)
		after(50)
		old, oldKey = id, key
	}
}

// readMeanwhile has four readers of two tenants send statements, which must all succeed, until the test ends. What it returns waits for so many.
func readMeanwhile(t *testing.T, db *gorm.DB) (after func(statements int64)) {
	t.Helper()
	var wait sync.WaitGroup
	var sent atomic.Int64
	stop := make(chan struct{})
	for n := range 4 {
		wait.Go(func() {
			ctx := tenancy.WithTenant(context.Background(), []string{"a", "b"}[n%2])
			for {
				select {
				case <-stop:
					return
				default:
				}
				var found []Page
				assert.NoError(t, db.WithContext(ctx).Find(&found).Error)
				assert.Len(t, found, 1)
				sent.Add(1)
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		wait.Wait()
	})
	return func(statements int64) {
		for from := sent.Load(); sent.Load() < from+statements; {
			runtime.Gosched()
		}
	}
}

// signedBy is the id of the key that signs now.
func signedBy(t *testing.T, db *gorm.DB) (id string) {
	t.Helper()
	require.NoError(t, db.WithContext(tenancy.WithTenant(context.Background(), "a")).Raw(`SELECT substr(current_setting('app.tenant_id_proof'), 88)`).Scan(&id).Error)
	return id
}

// TestKeyFunctionsRefuse what would lose statements.
func TestKeyFunctionsRefuse(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.asSigner(t, func(conn *pgx.Conn) {
		refused := func(code, statement string) {
			t.Helper()
			_, err := conn.Exec(t.Context(), statement)
			require.ErrorContains(t, err, code, statement)
		}
		refused("55000", `SELECT tenancy_signed.retire_key('one')`)
		refused("55000", `SELECT tenancy_signed.retire_key('one', dangerously_the_only_key => NULL)`)
		refused("42704", `SELECT tenancy_signed.retire_key('another')`)
		refused("42704", `SELECT tenancy_signed.retire_key(NULL)`)
		_, err := conn.Exec(t.Context(), `SELECT tenancy_signed.generate_key('two')`)
		require.NoError(t, err)
		refused("54000", `SELECT tenancy_signed.generate_key('three')`)
		refused("54000", `INSERT INTO tenancy_signed.new_keys VALUES ('three', sha256('x'))`)
		refused("55006", `SELECT tenancy_signed.retire_key('one')`)
		refused("55P02", `SELECT tenancy_signed.retire_key('two')`)
		_, err = conn.Exec(t.Context(), `UPDATE tenancy_signed.keys SET created_at = created_at - interval '1 year'`)
		require.NoError(t, err)
		refused("55P02", `SELECT tenancy_signed.retire_key('two')`) // however old it is
		refused("22023", `SELECT tenancy_signed.retire_key('one', '0')`)
		refused("22023", `SELECT tenancy_signed.retire_key('one', NULL)`)
		refused("22023", `SELECT tenancy_signed.retire_key('one', '1 day')`)
		_, err = conn.Exec(t.Context(), `SELECT tenancy_signed.retire_key('one', dangerously_at_once => true)`)
		require.NoError(t, err)
		refused("22023", `SELECT tenancy_signed.add_key('x', 'short')`)
		refused("22023", `SELECT tenancy_signed.add_key('x y', sha256('x'))`)
	})
	d.as(t, d.App, func(conn *pgx.Conn) {
		for _, statement := range []string{
			`SELECT tenancy_signed.generate_key('x')`, `SELECT tenancy_signed.retire_key('one')`, `SELECT * FROM tenancy_signed.list_keys()`,
			`INSERT INTO tenancy_signed.new_keys VALUES ('x', sha256('x'))`, `SELECT * FROM tenancy_signed.new_keys`,
		} {
			_, err := conn.Exec(t.Context(), statement)
			require.ErrorContains(t, err, "42501", statement)
		}
	})
}
