package pgbouncer

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// signedSetups are those that carry a proof, each as it prepares nothing on the server, and where PgBouncer keeps account of what is
// prepared as it does. PgBouncer resets each connection to the server, so that its account must survive that.
func signedSetups(d *database) map[setup]int {
	setups := map[setup]int{}
	for _, mode := range []string{"cache_describe", "describe_exec", "exec"} {
		setups[setup{mode, false}], setups[setup{mode, true}] = 0, 0
		if d.prepared > 0 {
			setups[setup{mode, true}] = manyStatements
		}
	}
	if d.prepared > 0 {
		setups[setup{"cache_statement", false}], setups[setup{"cache_statement", true}] = manyStatements, manyStatements
	}
	return setups
}

func newSigned(t *testing.T) *database {
	t.Helper()
	d := &database{Database: testdb.NewSigned(t, &Note{})}
	for n := range tenants {
		notes := make([]Note, notesEach)
		for i := range notes {
			notes[i] = Note{TenantID: tenant(n), Text: seed}
		}
		require.NoError(t, d.AdminDB.Create(&notes).Error)
	}
	d.bouncer = start(t, serverConns, true, 0, d.App)
	return d
}

// openSigned is open for a database that demands proofs.
func (s setup) openSigned(t *testing.T, d *database, cache int, unbound bool) (*gorm.DB, error) {
	t.Helper()
	cfg := d.Config()
	cfg.DangerouslyUnboundProofs = unbound
	dsn := d.dsn(t, d.App.DSN, "default_query_exec_mode="+s.mode, fmt.Sprintf("statement_cache_capacity=%d", cache))
	return testdb.OpenGuarded(t, dsn, cfg, testdb.FromPool(), testdb.Prepared(s.prepare))
}

// TestSignedNeedsUnboundProofs: a proof that names a process is refused where the process changes with each transaction, when the
// plugin is installed.
func TestSignedNeedsUnboundProofs(t *testing.T) {
	d := newSigned(t)
	_, err := setup{"exec", false}.openSigned(t, d, 0, false)
	require.ErrorContains(t, err, "DangerouslyUnboundProofs")
	require.ErrorIs(t, err, tenancy.ErrUnsafeDatabase)
}

// TestSignedTenantsShareServerConnections: tenants at the same time, on fewer connections than there are of them, see their own rows,
// and SQL that names another tenant sees none of that one's.
func TestSignedTenantsShareServerConnections(t *testing.T) {
	d := newSigned(t)
	for _, count := range preparedCounts(t) {
		t.Run(fmt.Sprintf("max_prepared_statements=%d", count), func(t *testing.T) {
			behind := *d
			behind.bouncer = start(t, serverConns, true, count, d.App)
			testSignedTenants(t, &behind)
		})
	}
}

func testSignedTenants(t *testing.T, d *database) {
	t.Helper()
	for s, cache := range signedSetups(d) {
		t.Run(s.String(), func(t *testing.T) {
			db, err := s.openSigned(t, d, cache, true)
			require.NoError(t, err)
			everybody(t, db, func(db *gorm.DB, name string, _ work) {
				var notes []Note
				if err := db.WithContext(as(name)).Where("text = ?", seed).Find(&notes).Error; err != nil || len(notes) != notesEach {
					t.Errorf("%s: %d notes, %v", name, len(notes), err)
				}
				for _, n := range notes {
					if n.TenantID != name {
						t.Errorf("%s has a note of %s", name, n.TenantID)
					}
				}
				attack := `SELECT tenant_id FROM (SELECT set_config('app.tenant_id', ?, true) OFFSET 0) s, notes`
				for n := range tenants {
					var stolen []string
					if err := db.WithContext(as(name)).Raw(attack, tenant(n)).Scan(&stolen).Error; err != nil || (len(stolen) > 0) != (tenant(n) == name) {
						t.Errorf("%s took %d notes of %s, %v", name, len(stolen), tenant(n), err)
					}
				}
				if err := db.WithContext(as(name)).Exec(`SELECT set_config('app.tenant_id', ?, false)`, tenant(0)).Error; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestSignedProofOfAnotherClient: a proof without a process is good for its tenant and login on every connection, until it expires, and
// for no other tenant or login.
func TestSignedProofOfAnotherClient(t *testing.T) {
	d := newSigned(t)
	db, err := setup{"exec", false}.openSigned(t, d, 0, true)
	require.NoError(t, err)
	var proof string
	require.NoError(t, db.WithContext(as(tenant(1))).Raw(`SELECT current_setting('app.tenant_id_proof')`).Scan(&proof).Error)

	sees := func(dsn, tenant string) (count int) {
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		defer conn.Close(context.WithoutCancel(t.Context()))
		require.NoError(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), `SELECT set_config('app.tenant_id', $1, true), set_config($2, $3, true)`, tenant, "app.tenant_id"+signing.ProofSuffix, proof)
			require.NoError(t, err)
			return tx.QueryRow(t.Context(), `SELECT count(*) FROM notes`).Scan(&count)
		}))
		return count
	}
	pooled := d.dsn(t, d.App.DSN, "default_query_exec_mode=exec")
	require.Equal(t, notesEach, sees(pooled, tenant(1)))
	require.Equal(t, notesEach, sees(d.App.DSN, tenant(1)))
	for n := range tenants {
		if n != 1 {
			require.Zero(t, sees(pooled, tenant(n)), tenant(n))
		}
	}
	require.Zero(t, sees(d.Owner.DSN, tenant(1)), "another login")

	// Nothing of it stays on the connections to the server.
	require.NoError(t, db.WithContext(as(tenant(1))).Exec(`SELECT 1`).Error)
	d.onEach(t, d.App, serverConns, func(pid uint32, tx pgx.Tx) {
		var left string
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT coalesce(current_setting('app.tenant_id_proof', true), '')`).Scan(&left))
		require.Empty(t, left, fmt.Sprint(pid))
	})
}
