package isolation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// way is one of the ways in which GORM sends SQL. It works for the tenant two.me and returns an error for every row of
// the other tenant that it got, for rows of its own that it missed, and for what GORM returned. db carries the context.
type way struct {
	name string
	run  func(db *gorm.DB, two *pair) error
}

// own checks that the patients are all those of the tenant, and no others.
func own(two *pair, patients []Patient, err error) error {
	if err != nil {
		return err
	}
	var tenants []string
	for _, p := range patients {
		tenants = append(tenants, p.TenantID)
	}
	return tenantsAre(two, tenants, patientsEach)
}

// tenantsAre checks that there are n rows, all the tenant's.
func tenantsAre(two *pair, tenants []string, n int) error {
	for _, tenant := range tenants {
		if tenant != two.me {
			return fmt.Errorf("a row of %q crossed to %q", tenant, two.me)
		}
	}
	return count(int64(len(tenants)), n)
}

func count[N int | int64](got N, want int) error {
	if int(got) != want {
		return fmt.Errorf("got %d rows, want %d", got, want)
	}
	return nil
}

// one checks a statement that is to change this many rows.
func changes(tx *gorm.DB, n int) error {
	if tx.Error != nil {
		return tx.Error
	}
	return count(tx.RowsAffected, n)
}

// absent checks that a row of the other tenant can't be found.
func absent(err error) error {
	if err == nil {
		return errors.New("found a row of the other tenant")
	}
	if errors.Is(err, gorm.ErrRecordNotFound) || errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// scanTenants reads a result of one column.
func scanTenants(rows *sql.Rows, err error) (tenants []string, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return nil, err
		}
		tenants = append(tenants, tenant)
	}
	return tenants, rows.Err()
}

const selectTenants = "SELECT tenant_id FROM patients WHERE deleted_at IS NULL"

var reads = []way{
	{"Find", func(db *gorm.DB, two *pair) error {
		var p []Patient
		return own(two, p, db.Find(&p).Error)
	}},
	{"Find pointers", func(db *gorm.DB, two *pair) error {
		var p []*Patient
		if err := db.Find(&p).Error; err != nil {
			return err
		}
		var tenants []string
		for _, one := range p {
			tenants = append(tenants, one.TenantID)
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Find maps", func(db *gorm.DB, two *pair) error {
		var maps []map[string]any
		if err := db.Model(&Patient{}).Find(&maps).Error; err != nil {
			return err
		}
		var tenants []string
		for _, m := range maps {
			tenants = append(tenants, m["tenant_id"].(string))
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Find by the other's ids", func(db *gorm.DB, two *pair) error {
		var p []Patient
		if err := db.Find(&p, two.theirs.patients[:]).Error; err != nil {
			return err
		}
		return count(len(p), 0)
	}},
	{"First", func(db *gorm.DB, two *pair) error {
		var p Patient
		if err := db.First(&p).Error; err != nil {
			return err
		}
		return tenantsAre(two, []string{p.TenantID}, 1)
	}},
	{"First by the other's id", func(db *gorm.DB, two *pair) error {
		return absent(db.First(&Patient{}, two.theirs.patients[0]).Error)
	}},
	{"First by the other's model", func(db *gorm.DB, two *pair) error {
		return absent(db.First(&Patient{ID: two.theirs.patients[0]}).Error)
	}},
	{"Take", func(db *gorm.DB, two *pair) error {
		return absent(db.Where("tenant_id = ?", two.other).Take(&Patient{}).Error)
	}},
	{"Last", func(db *gorm.DB, two *pair) error {
		var p Patient // the other tenant was seeded last
		if err := db.Last(&p).Error; err != nil {
			return err
		}
		return tenantsAre(two, []string{p.TenantID}, 1)
	}},
	{"Where struct", func(db *gorm.DB, two *pair) error {
		return absent(db.Where(&Patient{TenantID: two.other}).First(&Patient{}).Error)
	}},
	{"Where map", func(db *gorm.DB, two *pair) error {
		return absent(db.Where(map[string]any{"tenant_id": two.other}).First(&Patient{}).Error)
	}},
	{"Or", func(db *gorm.DB, two *pair) error {
		var p []Patient
		err := db.Where("tenant_id = ?", two.me).Or("tenant_id = ?", two.other).Or("1 = 1").Find(&p).Error
		return own(two, p, err)
	}},
	{"Not", func(db *gorm.DB, two *pair) error {
		var p []Patient
		if err := db.Not("tenant_id = ?", two.me).Find(&p).Error; err != nil {
			return err
		}
		return count(len(p), 0)
	}},
	{"Select, Omit, Order, Limit, Offset", func(db *gorm.DB, two *pair) error {
		var p []Patient
		err := db.Select("id", "tenant_id").Omit("name").Order("id DESC").Limit(100).Offset(0).Find(&p).Error
		return own(two, p, err)
	}},
	{"smaller struct", func(db *gorm.DB, two *pair) error {
		var p []struct{ TenantID string }
		if err := db.Model(&Patient{}).Find(&p).Error; err != nil {
			return err
		}
		var tenants []string
		for _, one := range p {
			tenants = append(tenants, one.TenantID)
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Pluck", func(db *gorm.DB, two *pair) error {
		var tenants []string
		if err := db.Model(&Patient{}).Pluck("tenant_id", &tenants).Error; err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Distinct", func(db *gorm.DB, two *pair) error {
		var tenants []string
		if err := db.Model(&Patient{}).Distinct("tenant_id").Pluck("tenant_id", &tenants).Error; err != nil {
			return err
		}
		return tenantsAre(two, tenants, 1)
	}},
	{"Count", func(db *gorm.DB, two *pair) error {
		var n int64
		if err := db.Model(&Patient{}).Count(&n).Error; err != nil {
			return err
		}
		return count(n, patientsEach)
	}},
	{"Group and Having", func(db *gorm.DB, two *pair) error {
		var tenants []string
		err := db.Model(&Patient{}).Group("tenant_id").Having("count(*) > 0").Pluck("tenant_id", &tenants).Error
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, 1)
	}},
	{"Scan", func(db *gorm.DB, two *pair) error {
		var p []Patient
		return own(two, p, db.Model(&Patient{}).Scan(&p).Error)
	}},
	{"Table", func(db *gorm.DB, two *pair) error {
		var tenants []string
		err := db.Table("patients AS p").Where("p.deleted_at IS NULL").Pluck("p.tenant_id", &tenants).Error
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Rows", func(db *gorm.DB, two *pair) error {
		tenants, err := scanTenants(db.Model(&Patient{}).Select("tenant_id").Rows())
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Rows closed early", func(db *gorm.DB, two *pair) error {
		rows, err := db.Model(&Patient{}).Select("tenant_id").Order("tenant_id DESC").Rows()
		if err != nil {
			return err
		}
		var tenant string
		if !rows.Next() {
			return errors.Join(errors.New("no rows"), rows.Err(), rows.Close())
		}
		if err := errors.Join(rows.Scan(&tenant), rows.Close()); err != nil {
			return err
		}
		return tenantsAre(two, []string{tenant}, 1)
	}},
	{"ScanRows", func(db *gorm.DB, two *pair) error {
		rows, err := db.Model(&Patient{}).Rows()
		if err != nil {
			return err
		}
		defer rows.Close()
		var patients []Patient
		for rows.Next() {
			var p Patient
			if err := db.ScanRows(rows, &p); err != nil {
				return err
			}
			patients = append(patients, p)
		}
		return own(two, patients, rows.Err())
	}},
	{"Row", func(db *gorm.DB, two *pair) error {
		var n int
		if err := db.Model(&Patient{}).Select("count(*)").Row().Scan(&n); err != nil {
			return err
		}
		return count(n, patientsEach)
	}},
	{"FindInBatches", func(db *gorm.DB, two *pair) error {
		var batch, all []Patient
		err := db.FindInBatches(&batch, 2, func(*gorm.DB, int) error {
			all = append(all, batch...)
			return nil
		}).Error
		return own(two, all, err)
	}},
	{"Preload", func(db *gorm.DB, two *pair) error {
		var p []Patient
		err := db.Preload("Doctor").Preload("Visits").Preload("Tags").Find(&p).Error
		if err := own(two, p, err); err != nil {
			return err
		}
		for _, one := range p {
			if one.Doctor == nil || len(one.Visits) != 1 || len(one.Tags) != 1 {
				return errors.New("a relation was not loaded")
			}
			if err := tenantsAre(two, []string{one.Doctor.TenantID, one.Visits[0].TenantID, one.Tags[0].TenantID}, 3); err != nil {
				return err
			}
		}
		return nil
	}},
	{"nested Preload", func(db *gorm.DB, two *pair) error {
		var doctors []Doctor
		if err := db.Preload("Patients.Visits", "note <> ?", "").Find(&doctors).Error; err != nil {
			return err
		}
		if len(doctors) != 1 {
			return count(len(doctors), 1)
		}
		return own(two, doctors[0].Patients, nil)
	}},
	{"Joins", func(db *gorm.DB, two *pair) error {
		var p []Patient
		return own(two, p, db.Joins("Doctor").Find(&p).Error)
	}},
	{"InnerJoins", func(db *gorm.DB, two *pair) error {
		var p []Patient
		return own(two, p, db.InnerJoins("Doctor").Find(&p).Error)
	}},
	{"Joins in SQL", func(db *gorm.DB, two *pair) error {
		var tenants []string
		err := db.Model(&Patient{}).Joins("CROSS JOIN doctors d").Pluck("d.tenant_id", &tenants).Error
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"subquery in WHERE", func(db *gorm.DB, two *pair) error {
		var p []Patient
		ids := db.Session(&gorm.Session{NewDB: true}).Model(&Visit{}).Select("patient_id")
		return own(two, p, db.Where("id IN (?)", ids).Find(&p).Error)
	}},
	{"subquery in FROM", func(db *gorm.DB, two *pair) error {
		var tenants []string
		sub := db.Session(&gorm.Session{NewDB: true}).Model(&Patient{})
		if err := db.Table("(?) AS s", sub).Pluck("tenant_id", &tenants).Error; err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"FOR UPDATE", func(db *gorm.DB, two *pair) error {
		var p []Patient
		return own(two, p, db.Clauses(clause.Locking{Strength: "UPDATE"}).Find(&p).Error)
	}},
	{"Unscoped", func(db *gorm.DB, two *pair) error {
		var tenants []string
		if err := db.Unscoped().Model(&Patient{}).Pluck("tenant_id", &tenants).Error; err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach+1)
	}},
	{"Scopes", func(db *gorm.DB, two *pair) error {
		var p []Patient
		adults := func(tx *gorm.DB) *gorm.DB { return tx.Where("age > ?", 18) }
		return own(two, p, db.Scopes(adults).Find(&p).Error)
	}},
	{"FirstOrInit", func(db *gorm.DB, two *pair) error {
		p := Patient{}
		if err := db.Where("id = ?", two.theirs.patients[0]).FirstOrInit(&p).Error; err != nil {
			return err
		}
		return count(p.ID, 0)
	}},
	{"Association Find", func(db *gorm.DB, two *pair) error {
		var p []Patient
		doctors := []Doctor{{ID: two.mine.doctor}, {ID: two.theirs.doctor}}
		return own(two, p, db.Model(&doctors).Association("Patients").Find(&p))
	}},
	{"Association Find of the other's", func(db *gorm.DB, two *pair) error {
		var p []Patient
		if err := db.Model(&Doctor{ID: two.theirs.doctor}).Association("Patients").Find(&p); err != nil {
			return err
		}
		return count(len(p), 0)
	}},
	{"Association Count", func(db *gorm.DB, two *pair) error {
		a := db.Model(&Doctor{ID: two.theirs.doctor}).Association("Patients")
		n := a.Count()
		if a.Error != nil {
			return a.Error
		}
		return count(n, 0)
	}},
	{"Raw Scan", func(db *gorm.DB, two *pair) error {
		var tenants []string
		if err := db.Raw(selectTenants).Scan(&tenants).Error; err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Raw with arguments", func(db *gorm.DB, two *pair) error {
		var tenants []string
		err := db.Raw(selectTenants+" AND age > @age", sql.Named("age", 1)).Scan(&tenants).Error
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Raw Rows", func(db *gorm.DB, two *pair) error {
		tenants, err := scanTenants(db.Raw(selectTenants + " ORDER BY tenant_id DESC").Rows())
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Raw Row", func(db *gorm.DB, two *pair) error {
		var tenant string
		return absent(db.Raw(selectTenants+" AND tenant_id = ?", two.other).Row().Scan(&tenant))
	}},
	{"Raw CTE and UNION", func(db *gorm.DB, two *pair) error {
		var tenants []string
		err := db.Raw("WITH all_of_them AS (" + selectTenants + ") SELECT * FROM all_of_them UNION ALL " +
			"SELECT tenant_id FROM doctors").Scan(&tenants).Error
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach+1)
	}},
	{"hook AfterFind", func(db *gorm.DB, two *pair) error {
		var h Hooked
		if err := db.First(&h).Error; err != nil {
			return err
		}
		return tenantsAre(two, append(h.Seen, h.TenantID), patientsEach+1)
	}},
	{"Session with PrepareStmt", func(db *gorm.DB, two *pair) error {
		var p []Patient
		return own(two, p, db.Session(&gorm.Session{PrepareStmt: true}).Find(&p).Error)
	}},
	{"Connection", func(db *gorm.DB, two *pair) error {
		var p []Patient
		err := db.Connection(func(tx *gorm.DB) error { return tx.Find(&p).Error })
		return own(two, p, err)
	}},
	{"DB().Query", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		tenants, err := scanTenants(pool.QueryContext(db.Statement.Context, selectTenants))
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"DB().QueryRow", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		var n int
		if err := pool.QueryRowContext(db.Statement.Context, "SELECT count(*) FROM visits WHERE id > $1", 0).Scan(&n); err != nil {
			return err
		}
		return count(n, patientsEach+1)
	}},
	{"DB().Prepare", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		stmt, err := pool.PrepareContext(db.Statement.Context, selectTenants+" AND age > $1")
		if err != nil {
			return err
		}
		defer stmt.Close()
		tenants, err := scanTenants(stmt.QueryContext(db.Statement.Context, 1))
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"DB().Conn", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		conn, err := pool.Conn(db.Statement.Context)
		if err != nil {
			return err
		}
		defer conn.Close()
		tenants, err := scanTenants(conn.QueryContext(db.Statement.Context, selectTenants))
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Statement.ConnPool", func(db *gorm.DB, two *pair) error {
		tenants, err := scanTenants(db.Statement.ConnPool.QueryContext(db.Statement.Context, selectTenants))
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"G Find", func(db *gorm.DB, two *pair) error {
		p, err := gorm.G[Patient](db).Find(db.Statement.Context)
		return own(two, p, err)
	}},
	{"G First", func(db *gorm.DB, two *pair) error {
		_, err := gorm.G[Patient](db).Where("id = ?", two.theirs.patients[0]).First(db.Statement.Context)
		return absent(err)
	}},
	{"G Count", func(db *gorm.DB, two *pair) error {
		n, err := gorm.G[Patient](db).Count(db.Statement.Context, "*")
		if err != nil {
			return err
		}
		return count(n, patientsEach)
	}},
	{"G Raw", func(db *gorm.DB, two *pair) error {
		tenants, err := gorm.G[string](db).Raw(selectTenants).Find(db.Statement.Context)
		if err != nil {
			return err
		}
		return tenantsAre(two, tenants, patientsEach)
	}},
	{"Transaction", func(db *gorm.DB, two *pair) error {
		var p []Patient
		err := db.Transaction(func(tx *gorm.DB) error { return tx.Find(&p).Error })
		return own(two, p, err)
	}},
	{"another goroutine", func(db *gorm.DB, two *pair) error {
		var p []Patient
		done := make(chan error)
		go func() { done <- db.Find(&p).Error }()
		return own(two, p, <-done)
	}},
	{"a context derived from it", func(db *gorm.DB, two *pair) error {
		ctx, cancel := context.WithCancel(db.Statement.Context)
		defer cancel()
		var p []Patient
		return own(two, p, db.WithContext(ctx).Find(&p).Error)
	}},
}
