package rls_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/rls"
	"github.com/gormtenancy/tenancy/rls/check"
	"github.com/gormtenancy/tenancy/tests/internal/testdb"
)

type (
	parcelled struct {
		ID       int64
		TenantID string
		Body     string
		Code     string `gorm:"uniqueIndex"`
		Pieces   []piece
	}
	piece struct {
		ID          int64
		TenantID    string
		ParcelledID int64
	}
)

// parted is the usual isolation with partitions of both tables.
func (d database) parted(hash int) rls.Isolation {
	i := d.keyed()
	i.Partition = []rls.Partitioned{{Model: &parcelled{}, Hash: hash}, {Model: &piece{}, Hash: hash}}
	return i
}

// bounds are the partitions of a table with what they hold, and whether policies are in force for all.
func (d database) bounds(t *testing.T, table string) []string {
	t.Helper()
	pool, err := d.OwnerDB.DB()
	require.NoError(t, err)
	return collect(t, pool, `SELECT concat_ws(' ', c.relname, pg_get_expr(relpartbound, c.oid),
			CASE WHEN relrowsecurity AND relforcerowsecurity THEN (SELECT string_agg(polname, ' ' ORDER BY polname) FROM pg_policy WHERE polrelid = c.oid) END)
		FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = '`+table+`'::regclass ORDER BY 1`)
}

// makeByScript makes the tables by the script of SQL, which can be run back, and again without a change.
func makeByScript(t *testing.T, d database, i rls.Isolation) {
	t.Helper()
	up, down, err := i.SQL(offline(t, &gorm.Config{}), &parcelled{}, &piece{})
	require.NoError(t, err)
	d.script(t, up)
	d.script(t, down)
	require.Empty(t, d.keys(t), "down drops all")
	d.script(t, up)
	before := d.dump(t)
	d.script(t, up)
	require.Equal(t, before, d.dump(t), "the script again")
}

func wantBounds(table string, hash int) []string {
	list := make([]string, hash)
	for n := range list {
		list[n] = fmt.Sprintf("%s_p%0*d FOR VALUES WITH (modulus %d, remainder %d) tenant_admin tenant_isolation", table, len(fmt.Sprint(hash-1)), n, hash, n)
	}
	return list
}

func TestPartitionMakesTablesWithPartitions(t *testing.T) {
	const hash = 12
	for name, audited := range map[string]bool{"plain": false, "audited": true} {
		for way, run := range map[string]func(t *testing.T, d database, i rls.Isolation){
			"Migrate": func(t *testing.T, d database, i rls.Isolation) {
				planned, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{})
				require.NoError(t, err)
				making := func(s rls.Step) bool { return s.Table == "pieces_p11" && s.Description == "make the partition" }
				require.True(t, slices.ContainsFunc(planned.Steps, making))
				require.Contains(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "public.parcelleds_p00: make the partition")
			},
			"SQL": makeByScript,
		} {
			t.Run(name+" by "+way, func(t *testing.T) {
				t.Parallel()
				d := newDatabase(t)
				// Default privileges of the owner reach the application.
				d.AsOwner(t, "ALTER DEFAULT PRIVILEGES GRANT SELECT, TRUNCATE ON TABLES TO "+d.App.Role)
				i := d.parted(hash)
				if audited {
					i.Audits = []rls.Audit{{Model: &parcelled{}}}
				}
				run(t, d, i)
				require.Equal(t, wantBounds("parcelleds", hash), d.bounds(t, "parcelleds"))
				require.Equal(t, wantBounds("pieces", hash), d.bounds(t, "pieces"))
				require.Contains(t, d.foreignKeys(t), "pieces fk_parcelleds_pieces FOREIGN KEY (tenant_id, parcelled_id) REFERENCES parcelleds(tenant_id, id)")

				before := d.snapshot(t)
				require.Empty(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "again")
				planned, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{})
				require.NoError(t, err)
				require.Empty(t, planned.Steps)
				for name, client := range autoClients {
					if !client.plain {
						require.NoError(t, client.open(t, d, &gorm.Config{}, "").AutoMigrate(&parcelled{}, &piece{}), name)
					}
				}
				i.Partition = nil
				require.Empty(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "what is partitioned stays so")
				require.Equal(t, before, d.snapshot(t))
				d.AsOwner(t, "ALTER DEFAULT PRIVILEGES REVOKE SELECT, TRUNCATE ON TABLES FROM "+d.App.Role)
				report, err := i.Check(t.Context(), d.OwnerDB)
				require.NoError(t, err)
				require.Empty(t, report.Findings)
				if audited {
					d.as(t, "acme", "INSERT INTO parcelleds (code) VALUES ('a')")
					require.Equal(t, []string{"INSERT"}, d.sees(t, "acme", "SELECT operation FROM tenancy_audit"))
				}
			})
		}
	}
}

// TestPartitionHoldsRowsOfManyTenants addresses each partition by its own name, as SQL that was injected could.
func TestPartitionHoldsRowsOfManyTenants(t *testing.T) {
	d := newDatabase(t)
	const hash = 2 // so that tenants share partitions
	d.migrateWith(t, d.parted(hash), &parcelled{}, &piece{})
	db := d.Open(t, d.Config())
	tenants := []string{"acme", "globex", "initech", "umbrella", "hooli", "stark"}
	for _, tenant := range tenants {
		row := parcelled{ID: 1, Body: "of " + tenant, Code: "same", Pieces: []piece{{ID: 1}}}
		require.NoError(t, db.WithContext(tenancy.WithTenant(t.Context(), tenant)).Create(&row).Error)
	}
	for _, granted := range []bool{false, true} {
		for n := range hash {
			part := fmt.Sprintf("parcelleds_p%d", n)
			if granted {
				d.AsOwner(t, "GRANT SELECT, UPDATE, DELETE ON "+part+" TO "+d.App.Role)
			}
			for _, tenant := range tenants {
				at := db.WithContext(tenancy.WithTenant(t.Context(), tenant))
				if !granted {
					require.ErrorContains(t, at.Exec("SELECT FROM "+part).Error, "permission denied for table "+part)
					continue
				}
				var bodies []string
				require.NoError(t, at.Raw("SELECT body FROM "+part).Scan(&bodies).Error)
				require.Subset(t, []string{"of " + tenant}, bodies)
				written := at.Exec("UPDATE " + part + " SET body = body")
				require.NoError(t, written.Error)
				require.Len(t, bodies, int(written.RowsAffected))
			}
		}
	}
	deleted := db.WithContext(tenancy.WithTenant(t.Context(), "acme")).Delete(&piece{}, 1)
	require.NoError(t, deleted.Error)
	require.EqualValues(t, 1, deleted.RowsAffected, "of many with the id")
}

// TestPartitionThatIsMissingIsMadeAgain takes partitions away by hand.
func TestPartitionThatIsMissingIsMadeAgain(t *testing.T) {
	d := newDatabase(t)
	i := d.parted(4)
	i.Audits = []rls.Audit{{Model: &parcelled{}}}
	d.migrateWith(t, i, &parcelled{}, &piece{})
	before := d.dump(t)
	d.AsOwner(t, "DROP TABLE pieces_p2", "ALTER TABLE parcelleds DETACH PARTITION parcelleds_p3")
	for _, migrate := range []func() error{
		func() error { _, err := i.Migrate(t.Context(), d.OwnerDB, &parcelled{}, &piece{}); return err },
		func() error { _, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{}); return err },
	} {
		require.EqualError(t, migrate(), "tenancy: Partition: public.parcelleds_p3 is there, but is not the partition of that name: "+
			"rename it or, if it was detached, attach it again; if tenancy tenant isolate has not ended, let it go on")
	}
	d.AsOwner(t, "DROP TABLE parcelleds_p3")
	changes := d.migrateWith(t, i, &parcelled{}, &piece{})
	require.Contains(t, changes, "public.pieces_p2: make the partition")
	require.Contains(t, changes, "public.parcelleds_p3: force row level security")
	for _, change := range changes {
		require.Regexp(t, `^public\.(pieces_p2|parcelleds_p3): `, change, "the others stay as they are")
	}
	require.ElementsMatch(t, before, d.dump(t))
	require.Empty(t, d.migrateWith(t, i, &parcelled{}, &piece{}), "again")
}

// TestPartitionLeavesNoTableWithoutThem refuses what would leave a table as it is without a word.
func TestPartitionLeavesNoTableWithoutThem(t *testing.T) {
	for name, c := range map[string]struct {
		before func(t *testing.T, d database)
		change func(i *rls.Isolation)
		err    string
	}{
		"plain table": {
			before: func(t *testing.T, d database) { d.migrateWith(t, d.keyed(), &parcelled{}, &piece{}) },
			err:    "Partition: table public.parcelleds is there and not partitioned, which PostgreSQL cannot change: drop it if it has no rows",
		},
		"partitioned otherwise": {
			before: func(t *testing.T, d database) {
				d.AsOwner(t, "CREATE TABLE parcelleds (id bigint, tenant_id text, body text, code text, PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id, id)")
			},
			err: `Partition: table public.parcelleds is partitioned already, but not by HASH ("tenant_id")`,
		},
		"by list": {
			before: func(t *testing.T, d database) {
				d.AsOwner(t, "CREATE TABLE parcelleds (id bigint, tenant_id text, body text, code text, PRIMARY KEY (tenant_id, id)) PARTITION BY LIST (tenant_id)")
			},
			err: `is partitioned already, but not by HASH ("tenant_id")`,
		},
		"another number": {
			before: func(t *testing.T, d database) { d.migrateWith(t, d.parted(8), &parcelled{}, &piece{}) },
			err:    "has a partition FOR VALUES WITH (modulus 8, remainder 0), which is none of 4",
		},
		"without TenantKeys": {
			change: func(i *rls.Isolation) { i.TenantKeys = false },
			err:    "the primary key of model *rls_test.parcelled must hold the column tenant_id (PostgreSQL wants that of partitioned tables): set TenantKeys",
		},
		"with KeepSchema": {
			change: func(i *rls.Isolation) { i.KeepSchema = true },
			err:    "Partition: with KeepSchema another tool makes the tables",
		},
		"one": {
			change: func(i *rls.Isolation) { i.Partition[0].Hash = 1 },
			err:    "model *rls_test.parcelled with Hash 1: must be from 2 to 1024",
		},
		"too many": {
			change: func(i *rls.Isolation) { i.Partition[0].Hash = 1025 },
			err:    "must be from 2 to 1024",
		},
		"named twice": {
			change: func(i *rls.Isolation) { i.Partition[0].Model = &piece{} },
			err:    "model *rls_test.piece is named twice",
		},
		"not migrated": {
			change: func(i *rls.Isolation) { i.Partition[0].Model = &note{} },
			err:    "model *rls_test.note is not among those that are migrated",
		},
		"without the tenant column": {
			change: func(i *rls.Isolation) { i.Partition[0].Model = &crumb{} },
			err:    "model *rls_test.crumb has no column tenant_id of its own",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			if c.before != nil {
				c.before(t, d)
			}
			before, i := d.snapshot(t), d.parted(4)
			if c.change != nil {
				c.change(&i)
				_, _, err := i.SQL(offline(t, &gorm.Config{}), &parcelled{}, &piece{}, &crumb{})
				require.ErrorContains(t, err, c.err)
			}
			_, err := i.Plan(t.Context(), d.OwnerDB, &parcelled{}, &piece{}, &crumb{})
			require.ErrorContains(t, err, c.err)
			_, err = i.Migrate(t.Context(), d.OwnerDB, &parcelled{}, &piece{}, &crumb{})
			require.ErrorContains(t, err, c.err)
			require.Equal(t, before, d.snapshot(t))
		})
	}
}

// TestPartitionTakesTheRowsOfAPlainTable follows the documentation.
func TestPartitionTakesTheRowsOfAPlainTable(t *testing.T) {
	d := newDatabase(t)
	d.migrateWith(t, d.keyed(), &parcelled{}, &piece{})
	d.AsSuperuser(t, "INSERT INTO parcelleds (tenant_id, id, code) VALUES ('acme', 1, 'a'), ('globex', 1, 'a'), ('globex', 2, 'b')",
		"INSERT INTO pieces (tenant_id, id, parcelled_id) VALUES ('globex', 7, 2)",
		"CREATE SCHEMA old", "ALTER TABLE parcelleds SET SCHEMA old", "ALTER TABLE pieces SET SCHEMA old")
	d.migrateWith(t, d.parted(4), &parcelled{}, &piece{})
	d.AsSuperuser(t, "INSERT INTO parcelleds (tenant_id, id, body, code) SELECT tenant_id, id, body, code FROM old.parcelleds",
		"INSERT INTO pieces (tenant_id, id, parcelled_id) SELECT tenant_id, id, parcelled_id FROM old.pieces",
		"SELECT setval('parcelleds_id_seq', (SELECT max(id) FROM parcelleds))", "DROP SCHEMA old CASCADE")
	require.Empty(t, d.migrateWith(t, d.parted(4), &parcelled{}, &piece{}))
	require.Equal(t, []string{"1", "2"}, d.sees(t, "globex", "SELECT id::text FROM parcelleds ORDER BY 1"))
	require.Equal(t, []string{"7"}, d.sees(t, "globex", "SELECT id::text FROM pieces"))
	require.Equal(t, []string{"1"}, d.sees(t, "acme", "SELECT id::text FROM parcelleds"))
	d.as(t, "globex", "INSERT INTO parcelleds (code) VALUES ('c')")
	require.Equal(t, []string{"3"}, d.sees(t, "globex", "SELECT max(id)::text FROM parcelleds"))
	require.Len(t, d.bounds(t, "parcelleds"), 4)
}

// crumb is a child table: only the plan gives it the tenant column.
type crumb struct {
	ID      int64
	PieceID int64
	Piece   piece
}

// sack has a table whose name is as long as one can be, and needs quotes.
type sack struct {
	ID       int64
	TenantID string
}

func (sack) TableName() string {
	return `a table of "sacks", whose name has as many bytes as names take!`
}

// TestPartitionsAreProved opens the application on partitioned tables, with names that have to be cut and quoted.
func TestPartitionsAreProved(t *testing.T) {
	d := newDatabase(t)
	i := d.keyed()
	i.Partition = []rls.Partitioned{{Model: &sack{}, Hash: 3}}
	d.migrateWith(t, i, &sack{})
	db := d.Open(t, d.Config(), testdb.Prepared(true))
	at := db.WithContext(tenancy.WithTenant(t.Context(), "acme"))
	require.NoError(t, at.Create(&sack{ID: 1}).Error)
	var found sack
	require.NoError(t, at.First(&found, 1).Error)
	require.Equal(t, "acme", found.TenantID)
	report, err := i.Check(t.Context(), d.OwnerDB, check.ModelsOnly(&sack{}))
	require.NoError(t, err)
	require.Empty(t, report.Findings)
}
