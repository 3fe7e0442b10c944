package placement

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy/internal/identity"
	"github.com/gormtenancy/tenancy/internal/sqltext"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
)

// Mover moves tenants between servers. Catalog, Servers and Actor must be set.
type Mover struct {
	// Catalog is a pool for the table of placements, whose login can write it: its owner.
	Catalog *sql.DB

	// Schema is the schema of the table; empty means public.
	Schema string

	// Servers are pools of the servers, by the names in the table. Their logins are those that lifecycle.Tenants needs, the owners of the tables. They
	// lead to PostgreSQL itself, or to a pooler that keeps sessions.
	Servers map[string]*sql.DB

	// Default names the server of tenants without a placement, as Config.Default does. It must be the same in all applications.
	Default string

	// TTL is the longest Config.TTL of all applications; zero means one second. After it, no application sends a new statement of a tenant that is
	// locked out.
	TTL time.Duration

	// StopTimeout is how long a tenant may be locked out until the move is backed out. Zero means ten seconds. It must be longer than TTL.
	StopTimeout time.Duration

	// Grace is how long after a move EraseOld erases nothing, because a process that was paused may still write. Zero means one minute.
	Grace time.Duration

	// Isolation, Actor, Skip, OnEvent and Logger are those of lifecycle.Tenants. Skip is about both servers: its tables are not moved.
	Isolation rls.Isolation
	Actor     string
	Skip      map[string]string
	OnEvent   func(ctx context.Context, e lifecycle.Event)
	Logger    *slog.Logger

	// Progress is called within passes, and OnStep at the beginning of each step. An error of OnStep ends the move as any other does. They may be nil.
	Progress func(lifecycle.Progress)
	OnStep   func(Step) error
}

// Step is a step of a move.
type Step string

// The steps.
const (
	StepCheck  Step = "check"
	StepCopy   Step = "copy"   // passes while the tenant works
	StepStop   Step = "stop"   // the tenant is locked out
	StepWait   Step = "wait"   // for answers that are cached, and for transactions that have written
	StepVerify Step = "verify" // the last passes, until one finds no difference
	StepSwitch Step = "switch"
	StepDone   Step = "done" // the tenant works at the target
)

// Report says what a move has done.
type Report struct {
	Tenant string           `json:"tenant"`
	From   string           `json:"from"` // the name of the server it lived on
	To     string           `json:"to"`   // and of the one it lives on after the move
	Rows   int64            `json:"rows"` // of the tenant, at the end
	Live   []lifecycle.Pass `json:"live"` // while the tenant worked
	Last   []lifecycle.Pass `json:"last"` // while it was locked out. The last one found no difference

	// Stop is how long the tenant was locked out: from before the state is written until the switch is committed. An application notices
	// either up to TTL later.
	Stop        time.Duration `json:"stop_ns"`
	Fingerprint string        `json:"fingerprint"` // of the rows, the same on both servers
}

const (
	defaultStop  = 10 * time.Second
	defaultGrace = time.Minute
	letInTimeout = 10 * time.Second

	// ttlMargin is added to TTL for the time between the answer about a tenant and the statement that it is for.
	ttlMargin = 250 * time.Millisecond

	maxLivePasses = 10
	maxLastPasses = 8
	smallRest     = 1000 // rows, which a pass brings over in little time
)

// Move moves a tenant to another server. The tenant works meanwhile, but for the end: it is locked out (ErrMoving) for TTL and the time that the last
// passes take. After an error, or if the process is killed, the tenant lives where it did, and the next call goes on; a process that was
// killed in the last part leaves the tenant locked out until that call, or until BackOut. The rows at the source stay until EraseOld.
func (m Mover) Move(ctx context.Context, tenant, to string) (Report, error) {
	report := Report{Tenant: tenant, To: to}
	m, err := m.checked(tenant)
	if err != nil {
		return report, err
	}
	if m.Servers[to] == nil {
		return report, fmt.Errorf("%w: the target is none of the servers", ErrNoServer)
	}
	if err := m.step(StepCheck); err != nil {
		return report, err
	}
	if err := m.verifyCatalog(ctx); err != nil {
		return report, err
	}
	row, err := m.read(ctx, tenant)
	if err != nil {
		return report, err
	}
	if err := m.canMove(row, to); err != nil {
		return report, err
	}
	if err := m.verifyDatabases(ctx, row); err != nil {
		return report, err
	}
	// Now: a pool may have one connection, which the run holds.
	var ids [2]string
	for n, server := range []string{row.Server, to} {
		if ids[n], err = m.databaseID(ctx, server); err != nil {
			return report, err
		}
	}
	report.From = row.Server
	err = lifecycle.Transfer(ctx, m.tenants(row.Server), m.tenants(to), tenant, func(run *lifecycle.TransferRun) error {
		v := &moving{Mover: m, run: run, row: row, ids: ids, report: &report}
		return v.move(ctx)
	})
	if err == nil {
		err = m.step(StepDone)
	}
	return report, err
}

// canMove refuses what the placement does not allow.
func (m Mover) canMove(row Placement, to string) error {
	switch {
	case m.Servers[row.Server] == nil:
		return fmt.Errorf("%w: the tenant is placed on %q, which is not named", ErrNoServer, row.Server)
	case row.State == Moved || row.State == Erasing:
		return fmt.Errorf("%w: it was moved before, and the rows on the server %q are not erased yet: erase them first", ErrState, row.Other)
	case row.Server == to:
		return fmt.Errorf("%w: it lives on that server", ErrState)
	case row.State != Placed && row.Other != to:
		return fmt.Errorf("%w: it is being moved to the server %q: go on, or back out first", ErrState, row.Other)
	}
	return nil
}

// verifyCatalog refuses a catalog if another of the servers has placements too. Applications read one of these tables: by the other, a tenant would be moved
// that goes on to work at the source, and EraseOld would erase its rows there.
func (m Mover) verifyCatalog(ctx context.Context) error {
	catalog, _, err := identity.Of(ctx, m.Catalog)
	if err != nil {
		return inCatalog(err)
	}
	table := qualified(m.Schema)
	for _, name := range slices.Sorted(maps.Keys(m.Servers)) {
		id, err := m.databaseID(ctx, name)
		if err != nil {
			return err
		}
		if id == catalog {
			continue
		}
		var found bool
		err = m.Servers[name].QueryRowContext(ctx, `SELECT pg_catalog.to_regclass($1) IS NOT NULL`, table).Scan(&found)
		if err == nil && found {
			err = m.Servers[name].QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM `+table+`)`).Scan(&found)
		}
		switch {
		case err != nil:
			return fmt.Errorf("placement: look for placements on the server %q: %w", name, err)
		case found:
			return fmt.Errorf("%w: the server %q: connect to the database whose placements the applications read, and drop the other table %s",
				ErrOtherCatalog, name, table)
		}
	}
	return nil
}

// verifyDatabases refuses names of servers that lead to other databases than they did in an earlier run: what that run has left would be looked for, or
// erased, where the tenant lives.
func (m Mover) verifyDatabases(ctx context.Context, row Placement) error {
	for _, s := range []struct{ name, id, columns string }{{row.Server, row.DatabaseID, "database_id = '' WHERE server"}, {row.Other, row.OtherDatabaseID, "other_database_id = '' WHERE other"}} {
		if s.id == "" || m.Servers[s.name] == nil {
			continue
		}
		is, err := m.databaseID(ctx, s.name)
		switch {
		case err != nil:
			return err
		case is != s.id:
			return fmt.Errorf("%w: %q: are DSNs swapped? If this server was made again or upgraded since, let any database be taken for it: UPDATE %s SET %s = %s",
				ErrOtherDatabase, s.name, qualified(m.Schema), s.columns, sqltext.Literal(s.name))
		}
	}
	return nil
}

// databaseID returns the identity of the database that the name of a server leads to.
func (m Mover) databaseID(ctx context.Context, server string) (string, error) {
	id, _, err := identity.Of(ctx, m.Servers[server])
	if err != nil {
		err = fmt.Errorf("on the server %q: %w", server, err)
	}
	return id, err
}

// moving is a move.
type moving struct {
	Mover
	run    *lifecycle.TransferRun
	row    Placement // as it was found; Run is the token of this move
	ids    [2]string // of the databases of the source and the target
	report *Report
}

func (v *moving) move(ctx context.Context) error {
	fresh := v.row.State == Placed
	if err := v.run.Check(ctx, fresh); err != nil {
		return err
	}
	if err := v.begin(ctx); err != nil {
		return err
	}
	if err := v.step(StepCopy); err != nil {
		return err
	}
	if err := v.live(ctx); err != nil {
		return err
	}
	if err := v.run.CheckSequences(ctx); err != nil {
		return err
	}
	if err := v.step(StepStop); err != nil {
		return err
	}
	return v.stop(ctx)
}

// begin writes that the tenant is being copied. From here on the placement is this run's. A tenant that an earlier run has locked out works again.
func (v *moving) begin(ctx context.Context) error {
	token := make([]byte, 16)
	if _, err := rand.Read(token); err != nil {
		return err
	}
	previous := v.row
	v.row.Run, v.row.State, v.row.Other = hex.EncodeToString(token), Copying, v.report.To
	// A tenant that is placed by default has no row yet. One that was written meanwhile is not touched.
	insert := `INSERT INTO ` + qualified(v.Schema) + ` (tenant, server) VALUES ($1, $2) ON CONFLICT (tenant) DO NOTHING`
	if _, err := v.Catalog.ExecContext(ctx, insert, v.row.Tenant, v.row.Server); err != nil {
		return inCatalog(err)
	}
	changed, err := v.update(ctx, `state = $2, other = $3, run = $4, database_id = $9, other_database_id = $10
		WHERE tenant = $1 AND server = $5 AND state = $6 AND other = $7 AND run = $8`,
		v.row.Tenant, Copying, v.row.Other, v.row.Run, previous.Server, previous.State, previous.Other, previous.Run, v.ids[0], v.ids[1])
	if err == nil && !changed {
		err = fmt.Errorf("%w: it has changed meanwhile: try again", ErrState)
	}
	return err
}

// live brings rows over while the tenant works, until few are left.
func (v *moving) live(ctx context.Context) error {
	for range maxLivePasses {
		pass, err := v.pass(ctx, &v.report.Live)
		if err != nil {
			return err
		}
		if pass.Differences() <= smallRest && pass.Unresolved == 0 {
			break
		}
	}
	return nil
}

func (v *moving) pass(ctx context.Context, list *[]lifecycle.Pass) (lifecycle.TransferPass, error) {
	began := time.Now()
	pass, err := v.run.Pass(ctx)
	*list = append(*list, pass.Pass(time.Since(began)))
	return pass, err
}

// stop locks the tenant out, brings the rest over, and switches. Whatever fails before the switch lets the tenant in again at the source.
func (v *moving) stop(ctx context.Context) error {
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, v.StopTimeout, ErrLockedOut)
	defer cancel()
	err := v.underLock(bounded)
	if err == nil {
		v.report.Stop = time.Since(began)
		return nil
	}
	if cause := context.Cause(bounded); errors.Is(cause, ErrLockedOut) && ctx.Err() == nil && !errors.Is(err, ErrLockedOut) {
		err = fmt.Errorf("%w than %s: it works where it did, and the next call goes on: %w", ErrLockedOut, v.StopTimeout, err)
	}
	return v.letIn(ctx, began, err)
}

func (v *moving) underLock(ctx context.Context) error {
	if err := v.setState(ctx, Copying, `state = 'moving'`); err != nil {
		return err
	}
	written := time.Now()
	if err := v.step(StepWait); err != nil {
		return err
	}
	// What was written until now is brought over while applications still use what they have cached.
	if _, err := v.pass(ctx, &v.report.Last); err != nil {
		return err
	}
	if err := sleep(ctx, time.Until(written.Add(v.TTL+ttlMargin))); err != nil {
		return err
	}
	if err := v.run.WaitForWriters(ctx); err != nil {
		return err
	}
	if err := v.step(StepVerify); err != nil {
		return err
	}
	for range maxLastPasses {
		pass, err := v.pass(ctx, &v.report.Last)
		if err != nil {
			return err
		}
		if pass.Differences() > 0 {
			continue
		}
		v.report.Rows, v.report.Fingerprint = pass.Rows, pass.Fingerprint
		if err := v.step(StepSwitch); err != nil {
			return err
		}
		return v.setState(ctx, Moving, `state = 'moved', server = other, other = server, database_id = other_database_id, other_database_id = database_id,
			fingerprint = $4`, pass.Fingerprint)
	}
	return fmt.Errorf("%w: rows differ after %d passes while nothing is written at the source: look for triggers and policies at the target", ErrNotEqual, maxLastPasses)
}

// letIn takes the lock-out back after an error. If it is not known whether the switch was committed, the placement says so.
func (v *moving) letIn(ctx context.Context, began time.Time, failed error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letInTimeout)
	defer cancel()
	_, err := v.update(ctx, `state = 'copying' WHERE tenant = $1 AND run = $2 AND state = 'moving'`, v.row.Tenant, v.row.Run)
	if err != nil {
		return fmt.Errorf("%w; and the tenant may still be locked out, because the catalog cannot be written: move it again, or back out: %w", failed, err)
	}
	row, err := v.read(ctx, v.row.Tenant)
	if err == nil && row.Run == v.row.Run && row.State == Moved {
		v.report.Stop = time.Since(began)
		return nil // the switch was committed, and its answer was lost
	}
	return failed
}

// setState changes the placement, if it is still this run's.
func (v *moving) setState(ctx context.Context, from State, set string, args ...any) error {
	changed, err := v.update(ctx, set+` WHERE tenant = $1 AND run = $2 AND state = $3`, append([]any{v.row.Tenant, v.row.Run, from}, args...)...)
	if err == nil && !changed {
		err = fmt.Errorf("%w: another run has changed it", ErrState)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// checked fills in defaults, and refuses what is missing.
func (m Mover) checked(tenant string) (Mover, error) {
	for field, value := range map[*time.Duration]time.Duration{&m.TTL: DefaultTTL, &m.StopTimeout: defaultStop, &m.Grace: defaultGrace} {
		if *field == 0 {
			*field = value
		}
	}
	switch {
	case m.Catalog == nil:
		return m, errors.New("placement: Mover.Catalog is nil")
	case tenant == "" || strings.ContainsRune(tenant, 0):
		return m, errors.New("placement: name the tenant")
	case m.TTL < 0 || m.Grace < 0 || m.StopTimeout <= m.TTL+ttlMargin:
		return m, fmt.Errorf("placement: Mover.StopTimeout must be longer than TTL and %s, and none may be negative", ttlMargin)
	}
	m.Servers = maps.Clone(m.Servers)
	return m, nil
}

// tenants works on the rows of a server.
func (m Mover) tenants(server string) lifecycle.Tenants {
	return lifecycle.Tenants{
		DB: m.Servers[server], Isolation: m.Isolation, Actor: m.Actor, Skip: m.Skip, OnEvent: m.OnEvent, Logger: m.Logger, Progress: m.Progress,
	}
}

func (m Mover) step(s Step) error {
	if m.OnStep == nil {
		return nil
	}
	return m.OnStep(s)
}

// read reads the placement of a tenant, which may be that by default.
func (m Mover) read(ctx context.Context, tenant string) (Placement, error) {
	p := Placement{Tenant: tenant}
	err := m.Catalog.QueryRowContext(ctx, `SELECT server, state, other, run, fingerprint, database_id, other_database_id, updated_at FROM `+qualified(m.Schema)+` WHERE tenant = $1`, tenant).
		Scan(&p.Server, &p.State, &p.Other, &p.Run, &p.Fingerprint, &p.DatabaseID, &p.OtherDatabaseID, &p.UpdatedAt)
	switch {
	case errors.Is(err, sql.ErrNoRows) && m.Default == "":
		return p, fmt.Errorf("%w: it has no placement, and there is no default", ErrNoServer)
	case errors.Is(err, sql.ErrNoRows):
		p.Server, p.State = m.Default, Placed
		return p, nil
	}
	return p, inCatalog(err)
}

// update changes the placement of a tenant by one statement, and reports whether it did.
func (m Mover) update(ctx context.Context, set string, args ...any) (bool, error) {
	result, err := m.Catalog.ExecContext(ctx, `UPDATE `+qualified(m.Schema)+` SET updated_at = now(), `+set, args...)
	if err != nil {
		return false, inCatalog(err)
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

func inCatalog(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("placement: the catalog: %w", err)
}
