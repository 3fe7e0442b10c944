package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/internal/signing"
	"github.com/gormtenancy/tenancy/rls"
)

// The tenants of the databases with and without a key. The two that are measured differ in their rows.
var signedTenants = []struct {
	name string
	rows int
}{{"small", 10}, {"large", 100_000}}

// signedOperations are run by a tenant with so many rows, the keys of which begin at first.
var signedOperations = []struct {
	name  string
	needs int // rows
	run   func(db *gorm.DB, first int64, round int) error
}{
	{"First by key", 1, func(db *gorm.DB, first int64, round int) error {
		return db.First(&Patient{}, first+int64(round%10)).Error
	}},
	{"Find of 100 rows", 100, func(db *gorm.DB, first int64, _ int) error {
		var found []Patient
		if err := db.Where("id >= ?", first).Order("id").Limit(100).Find(&found).Error; err != nil {
			return err
		}
		return want(len(found), 100)
	}},
	{"Create", 1, func(db *gorm.DB, _ int64, round int) error {
		return db.Create(&Patient{Name: fmt.Sprint("new ", round)}).Error
	}},
	{"Transaction of three", 1, func(db *gorm.DB, first int64, round int) error {
		return db.Transaction(func(tx *gorm.DB) error {
			var p Patient
			if err := tx.First(&p, first+int64(round%10)).Error; err != nil {
				return err
			}
			if err := tx.Model(&p).Update("age", round%100).Error; err != nil {
				return err
			}
			return tx.First(&Patient{}, first+int64((round+1)%10)).Error
		})
	}},
}

// measureSigned compares statements with a key with the same without, interleaved in one run, and writes tables of what it found.
func measureSigned(ctx context.Context, out io.Writer, s settings) error {
	server, err := pgserver.Start(ctx)
	if err != nil {
		return err
	}
	defer server.Close()
	rounds, many := 400, 10_000
	if s.quick {
		rounds, many = 40, 100
	}
	if s.samples > 0 {
		rounds = s.samples
	}
	fmt.Fprintf(out, "| network | other tenants | operation | rows of the tenant | without a key | and cleaned each time | with a key | ratio |\n|---|---|---|---|---|---|---|---|\n")
	for _, others := range []int{10, many} {
		if err := signedTable(ctx, out, server, others, rounds); err != nil {
			return err
		}
	}
	return signedFunction(ctx, out, server, rounds)
}

// signedTable measures all operations by both tenants, on loopback and with half a millisecond each way.
func signedTable(ctx context.Context, out io.Writer, server *pgserver.Server, others, rounds int) (err error) {
	ends := &closer{}
	defer ends.close(&err)
	pair, err := newSignedPair(ctx, server, others)
	if err != nil {
		return err
	}
	for _, n := range []network{{name: loopback}, {name: halfMs, proxied: true, delay: 500 * time.Microsecond}} {
		var clients [3]*gorm.DB
		for which, v := range []struct {
			*signedDatabase
			tenancy.Config
		}{{pair[0], tenancy.Config{}}, {pair[0], tenancy.Config{CleanAlways: true}}, {pair[1], tenancy.Config{SigningKeys: pair[1].keys}}} {
			dsn, _, err := n.path(v.login, ends)
			if err != nil {
				return err
			}
			if clients[which], err = openSigned(dsn, v.Config, ends); err != nil {
				return err
			}
		}
		for _, op := range signedOperations {
			first := int64(1)
			for _, t := range signedTenants {
				if t.rows >= op.needs {
					ctx := tenancy.WithTenant(ctx, t.name)
					times, err := signedRounds(len(clients), rounds, func(which, round int) error { return op.run(clients[which].WithContext(ctx), first, round) })
					if err != nil {
						return fmt.Errorf("%s: %w", op.name, err)
					}
					without, cleaned, with := median(times[0]), median(times[1]), median(times[2])
					r := newBootstrap(times, rand.New(rand.NewPCG(1, 1)), 0.5).ratio(2, 0) //nolint:gosec // it draws samples
					fmt.Fprintf(out, "| %s | %d | %s | %d | %.0f µs | %.0f µs | %.0f µs | %.2f (%.2f to %.2f) |\n", n.name, others, op.name, t.rows,
						without, cleaned, with, with/without, r.Low, r.High)
				}
				first += int64(t.rows)
			}
		}
	}
	return nil
}

// signedRounds returns the times in µs of each variant, which take turns.
func signedRounds(variants, rounds int, run func(which, round int) error) (times [][]float64, err error) {
	const warmUp = 10
	times = make([][]float64, variants)
	for round := range warmUp + rounds {
		for i := range variants {
			which := (i + round) % variants // none is always the first
			started := time.Now()
			if err := run(which, round); err != nil {
				return times, err
			}
			if round >= warmUp {
				times[which] = append(times[which], float64(time.Since(started).Nanoseconds())/1000)
			}
		}
	}
	return times, nil
}

// signedFunction times the verifying function alone, in PostgreSQL: many calls in one statement, beside as many of current_setting.
func signedFunction(ctx context.Context, out io.Writer, server *pgserver.Server, rounds int) (err error) {
	ends := &closer{}
	defer ends.close(&err)
	pair, err := newSignedPair(ctx, server, 10)
	if err != nil {
		return err
	}
	db, err := openSigned(pair[1].login, tenancy.Config{SigningKeys: pair[1].keys}, ends)
	if err != nil {
		return err
	}
	const calls = 1000
	expressions := [2]string{`current_setting('app.tenant_id', true)`, signing.Call(signing.FunctionTenant, "app.tenant_id")}
	db = db.WithContext(tenancy.WithTenant(ctx, signedTenants[0].name))
	times, err := signedRounds(len(expressions), max(rounds/10, 1), func(which, _ int) error {
		var verified int
		query := fmt.Sprintf(`SELECT count(%s) FROM generate_series(1, %d)`, expressions[which], calls)
		if err := db.Raw(query).Scan(&verified).Error; err != nil {
			return err
		}
		return want(verified, calls)
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThe verifying function takes %.1f µs a call on the server, current_setting %.2f µs (of %d calls in one statement).\n",
		(median(times[1])-median(times[0]))/calls, median(times[0])/calls, calls)
	return nil
}

// signedDatabase is one of a pair: with a key, or without.
type signedDatabase struct {
	login string // the DSN of a login that has no more rights than its statements need
	keys  tenancy.SigningKeys
}

func newSignedPair(ctx context.Context, server *pgserver.Server, others int) (pair [2]*signedDatabase, err error) {
	for n := range pair {
		if pair[n], err = newSignedDatabase(ctx, server, n == 1, others); err != nil {
			return pair, err
		}
	}
	return pair, nil
}

func newSignedDatabase(ctx context.Context, server *pgserver.Server, signed bool, others int) (*signedDatabase, error) {
	d, err := server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	app, signer := "app_of_"+d.Name, "signer_of_"+d.Name
	super, err := databaseOf(server.DSN(), d.Name, nil)
	if err != nil {
		return nil, err
	}
	login, err := databaseOf(d.App.DSN, d.Name, url.UserPassword(app, "bench"))
	if err != nil {
		return nil, err
	}
	err = asSuperuser(ctx, super, `CREATE ROLE `+signer+` NOLOGIN`, `GRANT `+signer+` TO `+d.Owner.Role,
		`GRANT CREATE ON DATABASE `+d.Name+` TO `+d.Owner.Role, `CREATE ROLE `+app+` LOGIN NOINHERIT PASSWORD 'bench'`,
		`ALTER ROLE `+app+` SET track_activities = off`, `GRANT USAGE ON SCHEMA public TO `+app,
		`REVOKE TEMPORARY ON DATABASE `+d.Name+` FROM PUBLIC`, `REVOKE CREATE ON SCHEMA public FROM PUBLIC`)
	if err != nil {
		return nil, err
	}
	owner, err := gorm.Open(postgres.Open(d.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	pool, err := owner.DB()
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	isolation := rls.Isolation{AppRole: app, AdminRole: d.Admin.Role, Signed: signed, SignerRole: signer}
	if _, err := isolation.Migrate(ctx, owner, &Patient{}); err != nil {
		return nil, err
	}
	made := &signedDatabase{login: login}
	statements := []string{fmt.Sprintf(`INSERT INTO patients (tenant_id, name, age) SELECT 'other-' || i / 10, 'other', 1 FROM generate_series(1, %d) i`, 10*others), `VACUUM ANALYZE patients`}
	for n := len(signedTenants) - 1; n >= 0; n-- { // so that their keys begin with 1
		statements = append([]string{fmt.Sprintf(`INSERT INTO patients (tenant_id, name, age) SELECT '%s', 'name', 1 FROM generate_series(1, %d)`,
			signedTenants[n].name, signedTenants[n].rows)}, statements...)
	}
	if signed {
		secret := make([]byte, signing.MinSecret) // a benchmark keeps no secret
		key, err := tenancy.NewSigningKey("bench", secret, time.Time{})
		if err != nil {
			return nil, err
		}
		made.keys = tenancy.FixedSigningKeys(key)
		statements = append(statements, fmt.Sprintf(`SELECT %s.add_key('bench', '\x%x')`, signing.Schema, secret))
	}
	return made, asSuperuser(ctx, super, statements...)
}

// openSigned opens GORM with the plugin, on one connection.
func openSigned(dsn string, cfg tenancy.Config, ends *closer) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	if err := db.Use(tenancy.New(cfg)); err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	ends.add(pool.Close)
	return db, nil
}

// databaseOf is a DSN that leads to another database and, where it is not nil, another login.
func databaseOf(dsn, database string, login *url.Userinfo) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", fmt.Errorf("the DSN of the server is no URL")
	}
	u.Path = "/" + database
	if login != nil {
		u.User = login
	}
	return u.String(), nil
}

func asSuperuser(ctx context.Context, dsn string, statements ...string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
