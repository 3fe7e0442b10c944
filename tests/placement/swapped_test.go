package placement

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/placement"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

// TestMoverRefusesSwappedServers: where the names of two servers are exchanged, the rows that a run would erase are those that the tenant works with.
func TestMoverRefusesSwappedServers(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 3)
	_, before := f.rows(t, acme)
	catalog := testdb.OpenSQL(t, f.databases[0].Owner.DSN)
	for _, pool := range f.owners {
		pool.SetMaxOpenConns(1) // as those of the command: nothing asks beside the run that holds it
	}
	swapped := f.mover()
	swapped.Catalog = catalog
	swapped.Servers = map[string]*sql.DB{"first": f.owners["second"], "second": f.owners["first"], "third": f.owners["third"]}
	refused := func(lives int, run func() error) {
		t.Helper()
		err := run()
		require.ErrorIs(t, err, placement.ErrOtherDatabase)
		require.ErrorContains(t, err, "are DSNs swapped?")
		_, sums := f.rows(t, acme)
		require.Equal(t, before[0], sums[lives])
	}
	resume := func() error { _, err := swapped.Move(t.Context(), acme, "second"); return err }
	backOut := func() error { _, err := swapped.BackOut(t.Context(), acme); return err }
	eraseOld := func() error { _, err := swapped.EraseOld(t.Context(), acme); return err }

	mover := func() placement.Mover { m := f.mover(); m.Catalog = catalog; return m }
	interrupted := mover()
	stop := errors.New("interrupted")
	interrupted.OnStep = func(s placement.Step) error {
		if s == placement.StepCopy {
			return stop
		}
		return nil
	}
	_, err := interrupted.Move(t.Context(), acme, "second")
	require.ErrorIs(t, err, stop)
	refused(0, resume)
	refused(0, backOut)

	_, err = mover().Move(t.Context(), acme, "second")
	require.NoError(t, err)
	refused(1, eraseOld)
	_, err = mover().EraseOld(t.Context(), acme)
	require.NoError(t, err)

	// The rows would stay behind: the source has none.
	refused(1, func() error { _, err := swapped.Move(t.Context(), acme, "third"); return err })

	// A server that was made again is taken when the operator says so.
	f.databases[0].AsOwner(t, `UPDATE tenant_placements SET database_id = 'another' WHERE server = 'second'`)
	back := func() error { _, err := mover().Move(t.Context(), acme, "first"); return err }
	refused(1, back)
	f.databases[0].AsOwner(t, `UPDATE tenant_placements SET database_id = '' WHERE server = 'second'`)
	require.NoError(t, back())
	_, sums := f.rows(t, acme)
	require.Equal(t, before[0], sums[0])
}

// TestMoverRefusesOtherCatalog: placements on a server that applications do not read them from let no tenant be moved.
func TestMoverRefusesOtherCatalog(t *testing.T) {
	f := newFixture(t)
	f.signUp(t, acme, 3)
	f.databases[0].AsOwner(t, `INSERT INTO tenant_placements (tenant, server) VALUES ('`+globex+`', 'first')`)
	_, before := f.rows(t, acme)
	wrong := f.mover()
	wrong.Catalog = f.owners["second"]
	for name, run := range map[string]func() error{
		"Move":     func() error { _, err := wrong.Move(t.Context(), acme, "second"); return err },
		"BackOut":  func() error { _, err := wrong.BackOut(t.Context(), acme); return err },
		"EraseOld": func() error { _, err := wrong.EraseOld(t.Context(), acme); return err },
	} {
		err := run()
		require.ErrorIs(t, err, placement.ErrOtherCatalog, name)
		require.ErrorContains(t, err, `"first"`, name)
	}
	_, err := f.mover().Move(t.Context(), acme, "second")
	require.NoError(t, err, "the tables of the other servers are empty")
	_, sums := f.rows(t, acme)
	require.Equal(t, before[0], sums[1])
}
