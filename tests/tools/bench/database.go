package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/rls"
)

// Patient is a row of the table that everything works on.
type Patient struct {
	ID        int64  `gorm:"index:,composite:of_tenant,priority:2"`
	TenantID  string `gorm:"index:,composite:of_tenant,priority:1;not null"`
	Name      string
	Email     string
	Age       int
	CreatedAt time.Time
	UpdatedAt time.Time
}

// The tenants tenant-1 to tenant-50 have 100 rows each, and one has more, which come after theirs.
const (
	tenants = 50
	each    = 100
	reader  = "tenant-25" // nothing writes to its rows
	writer  = "tenant-26"
	big     = "big"
	bigRows = 10_000
)

// idOf is the primary key of a tenant's row, its n-th if there were that many. Rows are inserted in turn.
func idOf(tenant string, n int) int64 {
	number := 25
	if tenant == writer {
		number = 26
	}
	return int64(number + n%each*tenants)
}

// standardRows is the SQL that inserts them.
var standardRows = []string{
	rowsSQL("SELECT 'tenant-' || t, n FROM generate_series(1, " + strconv.Itoa(each) + ") n, generate_series(1, " +
		strconv.Itoa(tenants) + ") t ORDER BY n, t"),
	rowsSQL("SELECT '" + big + "', n FROM generate_series(1, " + strconv.Itoa(bigRows) + ") n ORDER BY n"),
}

// evenRows is the SQL that inserts so many rows of so many tenants: tenantOf has the row with the id n.
func evenRows(rows, tenants int) string {
	return rowsSQL(fmt.Sprintf("SELECT 'tenant-' || n %% %d, n FROM generate_series(1, %d) n", tenants, rows))
}

// tenantOf is the tenant of a row among evenRows.
func tenantOf(id, tenants int) string { return "tenant-" + strconv.Itoa(id%tenants) }

func rowsSQL(from string) string {
	return `INSERT INTO patients (tenant_id, name, email, age, created_at, updated_at)
		SELECT tenant, 'Patient ' || n, 'patient' || n || '@example.com', n % 100, now(), now() FROM (` + from + `) r (tenant, n)`
}

// database is one of a server's, with the table of patients. A variant without policies has a database of its own, and
// every variant that writes.
type database struct {
	*pgserver.Database
	policies bool
	written  int // rows, since it was filled
}

// newDatabase has an empty table.
func newDatabase(ctx context.Context, server *pgserver.Server, policies bool) (*database, error) {
	inner, err := server.NewDatabase(ctx)
	if err != nil {
		return nil, err
	}
	d := &database{Database: inner, policies: policies}
	err = d.asOwner(func(owner *gorm.DB) error {
		if policies {
			_, err := rls.Isolation{AppRole: d.App.Role, AdminRole: d.Admin.Role}.Migrate(ctx, owner, &Patient{})
			return err
		}
		if err := owner.WithContext(ctx).AutoMigrate(&Patient{}); err != nil {
			return err
		}
		return execute(ctx, owner, "GRANT SELECT, INSERT, UPDATE ON patients TO "+d.App.Role,
			"GRANT USAGE ON SEQUENCE patients_id_seq TO "+d.App.Role)
	})
	if err != nil {
		return nil, fmt.Errorf("make the table: %w", err)
	}
	return d, nil
}

// fill replaces the rows of the table. Indexes are made after the rows, which is faster, and leaves them the same in
// every database.
func (d *database) fill(ctx context.Context, inserts ...string) error {
	err := d.asOwner(func(owner *gorm.DB) error {
		owner = owner.WithContext(ctx)
		if err := owner.Migrator().DropIndex(&Patient{}, "TenantID"); err != nil {
			return err
		}
		sql := []string{"TRUNCATE patients RESTART IDENTITY"}
		if d.policies {
			sql = append(sql, "ALTER TABLE patients NO FORCE ROW LEVEL SECURITY")
		}
		sql = append(sql, inserts...)
		if d.policies {
			sql = append(sql, "ALTER TABLE patients FORCE ROW LEVEL SECURITY")
		}
		if err := execute(ctx, owner, sql...); err != nil {
			return err
		}
		if err := owner.Migrator().CreateIndex(&Patient{}, "TenantID"); err != nil {
			return err
		}
		return execute(ctx, owner, "VACUUM ANALYZE patients", "ALTER TABLE patients SET (autovacuum_enabled = off)")
	})
	if err != nil {
		return fmt.Errorf("fill the table: %w", err)
	}
	return nil
}

// asOwner runs f with GORM as the owner of the table.
func (d *database) asOwner(f func(owner *gorm.DB) error) error {
	owner, err := gorm.Open(postgres.Open(d.Owner.DSN), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := owner.DB()
	if err != nil {
		return err
	}
	defer func(pool *sql.DB) { _ = pool.Close() }(pool)
	return f(owner)
}

func execute(ctx context.Context, db *gorm.DB, statements ...string) error {
	for _, sql := range statements {
		if err := db.WithContext(ctx).Exec(sql).Error; err != nil {
			return err
		}
	}
	return nil
}
