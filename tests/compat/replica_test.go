package compat

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// Late is a model whose table comes when the application is running already.
type Late struct {
	ID       int64
	TenantID string
}

// texts are the notes that a client sees, all of its tenant's.
func texts(t testing.TB, db *gorm.DB, tenant string) (texts []string) {
	t.Helper()
	var notes []Note
	require.NoError(t, db.WithContext(tenancy.WithTenant(context.Background(), tenant)).Order("id").Find(&notes).Error)
	for _, note := range notes {
		require.Equal(t, tenant, note.TenantID, "a note of another tenant")
		texts = append(texts, note.Text)
	}
	return texts
}

// TestReplicaBehind reads from a replica that is behind: a tenant sees its own rows as they were, and no other tenant's; and a
// table is proved on the replica by itself, however it is at the source.
func TestReplicaBehind(t *testing.T) { testdb.InBothForms(t, testReplicaBehind) }

func testReplicaBehind(t *testing.T) {
	d := newReplicated(t)
	t.Logf("the replica is a standby: %t", d.replica.Standby)
	for _, a := range arrangements {
		t.Run(a.String(), func(t *testing.T) {
			resolver := resolve(t, dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(d.replicaDSN)}})
			db := a.open(t, d.dsn, d.Config(), resolver)
			source := db.Clauses(dbresolver.Write)
			two := d.newPair(t)
			d.replica.CatchUp(t)
			before := []string{"one", "two", "three"}

			d.replica.Pause(t)
			mine := db.WithContext(two.ctx())
			require.NoError(t, mine.Create(&Note{Text: "four"}).Error)
			require.NoError(t, mine.Where("text = ?", "one").Delete(&Note{}).Error)
			require.NoError(t, d.AdminDB.Model(&Note{}).Where("id = ?", two.theirs[0].ID).Update("tenant_id", two.me).Error)
			for _, tenant := range []string{two.me, two.other} {
				require.Equal(t, before, texts(t, db, tenant), "on the replica")
			}
			require.Equal(t, []string{"two", "three", "one", "four"}, texts(t, source, two.me), "at the source")
			require.Equal(t, []string{"two", "three"}, texts(t, source, two.other), "at the source")

			d.replica.Resume(t)
			d.replica.CatchUp(t)
			require.Equal(t, []string{"two", "three", "one", "four"}, texts(t, db, two.me))
			require.Equal(t, []string{"two", "three"}, texts(t, db, two.other))
		})
	}
}

// TestTableIsIsolatedLater isolates a table at the source that the replica has without policies, until it catches up.
func TestTableIsIsolatedLater(t *testing.T) { testdb.InBothForms(t, testTableIsIsolatedLater) }

func testTableIsIsolatedLater(t *testing.T) {
	d := newReplicated(t)
	if !d.replica.Standby {
		t.Log("a copy takes over rows, and no policies: the standby of binaries on this machine does")
		return
	}
	resolver := resolve(t, dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(d.replicaDSN)}})
	db := arrangement{}.open(t, d.dsn, d.Config(), resolver).WithContext(tenancy.WithTenant(context.Background(), "acme"))
	owner := testdb.OpenPlain(t, d.Owner.DSN)

	require.NoError(t, owner.AutoMigrate(&Late{}))
	require.NoError(t, owner.Exec("GRANT SELECT, INSERT ON lates TO "+d.App.Role).Error)
	require.NoError(t, owner.Create([]Late{{TenantID: "acme"}, {TenantID: "globex"}}).Error)
	d.replica.CatchUp(t)
	var late []Late
	require.ErrorIs(t, db.Find(&late).Error, tenancy.ErrNotIsolated, "on the replica")
	require.ErrorIs(t, db.Clauses(dbresolver.Write).Find(&late).Error, tenancy.ErrNotIsolated, "at the source")

	d.replica.Pause(t)
	_, err := d.Isolation().Migrate(t.Context(), owner, &Late{})
	require.NoError(t, err)
	require.ErrorIs(t, db.Find(&late).Error, tenancy.ErrNotIsolated, "on the replica, still")
	require.NoError(t, db.Clauses(dbresolver.Write).Find(&late).Error)
	require.Len(t, late, 1)

	d.replica.Resume(t)
	d.replica.CatchUp(t)
	late = nil
	require.NoError(t, db.Find(&late).Error)
	require.Len(t, late, 1)
	require.Equal(t, "acme", late[0].TenantID)
}

// TestReplicaIsPromotedAndLost has a replica that first takes writes of its own, and then nothing any more.
func TestReplicaIsPromotedAndLost(t *testing.T) { testdb.InBothForms(t, testReplicaIsPromotedAndLost) }

func testReplicaIsPromotedAndLost(t *testing.T) {
	d := newReplicated(t)
	two := d.newPair(t)
	d.replica.CatchUp(t)
	clients := map[string]*gorm.DB{}
	for _, a := range arrangements {
		resolver := resolve(t, dbresolver.Config{Replicas: []gorm.Dialector{postgres.Open(d.replicaDSN)}})
		clients[a.String()] = a.open(t, d.dsn, d.Config(), resolver)
		require.Len(t, texts(t, clients[a.String()], two.me), 3)
	}

	d.replica.Promote(t)
	for name, db := range clients {
		t.Run("promoted, "+name, func(t *testing.T) { requirePromoted(t, db, two) })
	}

	d.replica.Stop(t)
	for name, db := range clients {
		t.Run("lost, "+name, func(t *testing.T) { d.requireLost(t, db, two) })
	}
}

// requirePromoted requires that tenants are kept apart where the replica takes writes, which the source does not get.
func requirePromoted(t *testing.T, db *gorm.DB, two *pair) {
	t.Helper()
	reconnect(t, db, two)
	for _, tenant := range []string{two.me, two.other} {
		require.Equal(t, []string{"one", "two", "three"}, texts(t, db, tenant))
	}
	there := db.WithContext(two.ctx()).Clauses(dbresolver.Read)
	note := Note{Text: "only there"}
	require.NoError(t, there.Transaction(func(tx *gorm.DB) error { return tx.Create(&note).Error }))
	require.Len(t, texts(t, db, two.me), 4)
	require.Len(t, texts(t, db, two.other), 3)
	require.Len(t, texts(t, db.Clauses(dbresolver.Write), two.me), 3)
	require.NoError(t, there.Transaction(func(tx *gorm.DB) error { return tx.Delete(&note).Error }))

	err := there.Transaction(func(tx *gorm.DB) error {
		return tx.Exec("INSERT INTO notes (tenant_id, text) VALUES (?, 'foreign')", two.other).Error
	})
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "42501", pgErr.Code, "the policy's")
}

// requireLost requires that reads fail where the replica is gone, and that the source is used as before.
func (d *replicated) requireLost(t *testing.T, db *gorm.DB, two *pair) {
	t.Helper()
	sent := d.traffic.RoundTrips()
	for range 3 {
		var notes []Note
		require.Error(t, db.WithContext(two.ctx()).Find(&notes).Error)
		require.Empty(t, notes)
		rows, err := db.WithContext(two.ctx()).Model(&Note{}).Rows()
		if err == nil {
			require.False(t, rows.Next())
			err = errors.Join(rows.Err(), rows.Close())
		}
		require.Error(t, err)
		require.Error(t, db.WithContext(two.ctx()).Raw("SELECT count(*) FROM notes").Scan(new(int)).Error)
	}
	require.Equal(t, sent, d.traffic.RoundTrips(), "round trips to the source: nothing is read there instead")

	require.ErrorIs(t, db.First(&Note{}).Error, tenancy.ErrNoTenant)
	require.Equal(t, []string{"one", "two", "three"}, texts(t, db.Clauses(dbresolver.Write), two.me))
	note := Note{Text: "new"}
	require.NoError(t, db.WithContext(two.ctx()).Create(&note).Error)
	require.NoError(t, db.WithContext(two.ctx()).Delete(&note).Error)
}

// reconnect uses up the connections that have ended with the promotion, where it is one that ends them.
func reconnect(t testing.TB, db *gorm.DB, two *pair) {
	t.Helper()
	for range 10 {
		if db.WithContext(two.ctx()).Find(&[]Note{}).Error == nil {
			return
		}
	}
	t.Fatal("the promoted replica is not read")
}
