package isolation

import (
	"errors"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// created checks a new row's tenant, in the value and in the database.
func created(db *gorm.DB, two *pair, rows ...Patient) error {
	for _, p := range rows {
		if p.TenantID != two.me {
			return fmt.Errorf("tenant_id of the created value is %q, want %q", p.TenantID, two.me)
		}
		var stored Patient
		if err := db.Session(&gorm.Session{NewDB: true}).First(&stored, p.ID).Error; err != nil {
			return fmt.Errorf("read what was created: %w", err)
		}
		if err := tenantsAre(two, []string{stored.TenantID}, 1); err != nil {
			return err
		}
	}
	return nil
}

// more checks how many patients there are beyond those of the fixture.
func more(db *gorm.DB, n int) error {
	var got int64
	if err := db.Session(&gorm.Session{NewDB: true}).Model(&Patient{}).Count(&got).Error; err != nil {
		return err
	}
	return count(got, patientsEach+n)
}

// severalStatements is the way that needs texts of several statements, which are refused with a key.
const severalStatements = "DB().Exec of several statements"

var writes = []way{
	{"Create", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "new"}
		if err := db.Create(&p).Error; err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Create slice", func(db *gorm.DB, two *pair) error {
		p := []Patient{{Name: "a"}, {Name: "b", TenantID: two.me}}
		if err := db.Create(&p).Error; err != nil {
			return err
		}
		return created(db, two, p...)
	}},
	{"Create pointers", func(db *gorm.DB, two *pair) error {
		p := []*Patient{{Name: "a"}, {Name: "b"}}
		if err := db.Create(p).Error; err != nil {
			return err
		}
		return created(db, two, *p[0], *p[1])
	}},
	{"Create array", func(db *gorm.DB, two *pair) error {
		p := [2]Patient{{Name: "a"}, {Name: "b"}}
		if err := db.Create(&p).Error; err != nil {
			return err
		}
		return created(db, two, p[:]...)
	}},
	{"CreateInBatches", func(db *gorm.DB, two *pair) error {
		p := []Patient{{Name: "a"}, {Name: "b"}, {Name: "c"}}
		if err := db.CreateInBatches(&p, 2).Error; err != nil {
			return err
		}
		return created(db, two, p...)
	}},
	{"Create map", func(db *gorm.DB, two *pair) error {
		if err := changes(db.Model(&Patient{}).Create(map[string]any{"Name": "map"}), 1); err != nil {
			return err
		}
		return more(db, 1)
	}},
	{"Create maps", func(db *gorm.DB, two *pair) error {
		maps := []map[string]any{{"name": "a"}, {"name": "b"}}
		if err := changes(db.Model(&Patient{}).Create(&maps), 2); err != nil {
			return err
		}
		return more(db, 2)
	}},
	{"Create with Select", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "selected"}
		if err := db.Select("Name").Create(&p).Error; err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Create with Omit", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "omitted"}
		if err := db.Omit("TenantID").Create(&p).Error; err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Create with associations", func(db *gorm.DB, two *pair) error {
		p := Patient{
			Name:   "with",
			Doctor: &Doctor{Name: "new"},
			Visits: []Visit{{Note: "a"}, {Note: "b"}},
			Tags:   []Tag{{Label: "x"}, {ID: two.mine.tag}},
		}
		if err := db.Create(&p).Error; err != nil {
			return err
		}
		if p.Doctor.TenantID != two.me || p.Visits[1].TenantID != two.me || p.Tags[0].TenantID != two.me {
			return errors.New("an associated row has no tenant")
		}
		var stored Patient
		if err := db.Preload(clause.Associations).First(&stored, p.ID).Error; err != nil {
			return err
		}
		if stored.Doctor == nil || len(stored.Visits) != 2 || len(stored.Tags) != 2 {
			return errors.New("an association was not stored")
		}
		return created(db, two, p)
	}},
	{"Create with hooks", func(db *gorm.DB, two *pair) error {
		h := Hooked{Name: "new"}
		if err := db.Create(&h).Error; err != nil {
			return err
		}
		var visits []string
		err := db.Model(&Visit{}).Where("note = ?", "by hook").Pluck("tenant_id", &visits).Error
		if err != nil {
			return err
		}
		return tenantsAre(two, append(visits, h.TenantID), 2)
	}},
	{"FirstOrCreate", func(db *gorm.DB, two *pair) error {
		p := Patient{}
		if err := db.Where(Patient{Name: "nobody"}).Attrs(Patient{Age: 5}).FirstOrCreate(&p).Error; err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Save new", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "saved"}
		if err := db.Save(&p).Error; err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Save existing", func(db *gorm.DB, two *pair) error {
		p := Patient{ID: two.mine.patients[0], Name: "renamed"} // without its tenant
		if err := changes(db.Save(&p), 1); err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Save onto the other's key", func(db *gorm.DB, two *pair) error {
		p := Patient{ID: two.theirs.patients[0], Name: "stolen"}
		return taken(db, two, &p, db.Save(&p).Error)
	}},
	{"Updates struct", func(db *gorm.DB, two *pair) error {
		return changes(db.Model(&Patient{}).Where("1 = 1").Updates(Patient{Name: "same"}), patientsEach)
	}},
	{"Updates map", func(db *gorm.DB, two *pair) error {
		return changes(db.Model(&Patient{}).Where("age > 0").Updates(map[string]any{"name": "same"}), patientsEach)
	}},
	{"Updates of the other's", func(db *gorm.DB, two *pair) error {
		return changes(db.Model(&Patient{ID: two.theirs.patients[0]}).Updates(Patient{Name: "stolen"}), 0)
	}},
	{"Update", func(db *gorm.DB, two *pair) error {
		return changes(db.Model(&Patient{}).Where("1 = 1").Update("name", "same"), patientsEach)
	}},
	{"Update with an expression", func(db *gorm.DB, two *pair) error {
		tx := db.Model(&Patient{}).Where("1 = 1").Update("age", gorm.Expr("age + ?", 1))
		return changes(tx, patientsEach)
	}},
	{"Update everywhere", func(db *gorm.DB, two *pair) error {
		tx := db.Session(&gorm.Session{AllowGlobalUpdate: true}).Model(&Patient{}).Update("name", "same")
		return changes(tx, patientsEach)
	}},
	{"UpdateColumns", func(db *gorm.DB, two *pair) error {
		return changes(db.Model(&Patient{}).Where("1 = 1").UpdateColumns(map[string]any{"age": 1}), patientsEach)
	}},
	{"Update returning", func(db *gorm.DB, two *pair) error {
		var p []Patient
		err := db.Model(&p).Clauses(clause.Returning{}).Where("1 = 1").Update("name", "same").Error
		return own(two, p, err)
	}},
	{"Delete", func(db *gorm.DB, two *pair) error {
		return changes(db.Delete(&Patient{}, []int64{two.mine.patients[0], two.theirs.patients[0]}), 1)
	}},
	{"Delete the other's", func(db *gorm.DB, two *pair) error {
		return changes(db.Delete(&Patient{}, two.theirs.patients[0]), 0)
	}},
	{"Delete where", func(db *gorm.DB, two *pair) error {
		return changes(db.Where("1 = 1").Delete(&Patient{}), patientsEach)
	}},
	{"Delete for good", func(db *gorm.DB, two *pair) error {
		return changes(db.Unscoped().Where("1 = 1").Delete(&Visit{}), patientsEach+1)
	}},
	{"Delete returning", func(db *gorm.DB, two *pair) error {
		var v []Visit
		if err := db.Clauses(clause.Returning{}).Where("1 = 1").Delete(&v).Error; err != nil {
			return err
		}
		var tenants []string
		for _, one := range v {
			tenants = append(tenants, one.TenantID)
		}
		return tenantsAre(two, tenants, patientsEach+1)
	}},
	{"upsert doing nothing", func(db *gorm.DB, two *pair) error {
		p := Patient{ID: two.theirs.patients[0], Name: "stolen"}
		tx := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&p)
		if tx.Error != nil {
			return tx.Error
		}
		if two.keyed {
			return errors.Join(created(db, two, p), more(db, 1))
		}
		return more(db, 0)
	}},
	{"upsert", func(db *gorm.DB, two *pair) error {
		p := Patient{ID: two.mine.patients[0], Name: "renamed"}
		if err := db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error; err != nil {
			return err
		}
		return errors.Join(created(db, two, p), more(db, 0))
	}},
	{"upsert onto the other's key", func(db *gorm.DB, two *pair) error {
		p := Patient{ID: two.theirs.patients[0], Name: "stolen"}
		return taken(db, two, &p, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error)
	}},
	{"Association Append", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "appended"}
		if err := db.Model(&Doctor{ID: two.mine.doctor}).Association("Patients").Append(&p); err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"Association Append many to many", func(db *gorm.DB, two *pair) error {
		tag := Tag{Label: "appended"}
		if err := db.Model(&Patient{ID: two.mine.patients[0]}).Association("Tags").Append(&tag); err != nil {
			return err
		}
		return tenantsAre(two, []string{tag.TenantID}, 1)
	}},
	{"Association Replace", func(db *gorm.DB, two *pair) error {
		tag := Tag{Label: "replaced"}
		a := db.Model(&Patient{ID: two.mine.patients[0]}).Association("Tags")
		if err := a.Replace(&tag); err != nil {
			return err
		}
		return tenantsAre(two, []string{tag.TenantID}, 1)
	}},
	{"Association Delete", func(db *gorm.DB, two *pair) error {
		a := db.Model(&Doctor{ID: two.theirs.doctor}).Association("Patients")
		return a.Delete(&Patient{ID: two.theirs.patients[0]})
	}},
	{"Association Clear", func(db *gorm.DB, two *pair) error {
		return db.Model(&Patient{ID: two.theirs.patients[0]}).Association("Tags").Clear()
	}},
	{"Delete with associations", func(db *gorm.DB, two *pair) error {
		return changes(db.Select("Visits", "Tags").Delete(&Patient{ID: two.theirs.patients[0]}), 0)
	}},
	{"Exec INSERT", func(db *gorm.DB, two *pair) error {
		if err := changes(db.Exec("INSERT INTO patients (name, tenant_id) VALUES ('raw', DEFAULT)"), 1); err != nil {
			return err
		}
		return more(db, 1)
	}},
	{"Exec INSERT for the other", func(db *gorm.DB, two *pair) error {
		return refused(db.Exec("INSERT INTO patients (name, tenant_id) VALUES (?, ?)", "raw", two.other).Error)
	}},
	{"Exec UPDATE", func(db *gorm.DB, two *pair) error {
		return changes(db.Exec("UPDATE patients SET name = ?", "raw"), patientsEach+1)
	}},
	{"Exec UPDATE to the other", func(db *gorm.DB, two *pair) error {
		return refused(db.Exec("UPDATE patients SET tenant_id = ?", two.other).Error)
	}},
	{"Exec DELETE", func(db *gorm.DB, two *pair) error {
		return changes(db.Exec("DELETE FROM visits"), patientsEach+1)
	}},
	{severalStatements, func(db *gorm.DB, two *pair) error {
		pool, err := db.DB() // GORM's PrepareStmt could not send them
		if err != nil {
			return err
		}
		res, err := pool.ExecContext(db.Statement.Context, "DELETE FROM visits; UPDATE patients SET name = 'raw'")
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		return count(n, patientsEach+1)
	}},
	{"Transaction", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "in tx"}
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&p).Error; err != nil {
				return err
			}
			return changes(tx.Model(&Patient{}).Where("1 = 1").Update("age", 1), patientsEach+1)
		})
		if err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"nested Transaction", func(db *gorm.DB, two *pair) error {
		rollback := errors.New("roll back")
		err := db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Patient{Name: "outer"}).Error; err != nil {
				return err
			}
			err := tx.Transaction(func(tx *gorm.DB) error {
				if err := changes(tx.Where("1 = 1").Delete(&Patient{}), patientsEach+1); err != nil {
					return err
				}
				return rollback
			})
			if !errors.Is(err, rollback) {
				return err
			}
			return more(tx, 1)
		})
		if err != nil {
			return err
		}
		return more(db, 1)
	}},
	{"SavePoint and RollbackTo", func(db *gorm.DB, two *pair) error {
		tx := db.Begin()
		defer tx.Rollback()
		if err := tx.Create(&Patient{Name: "kept"}).Error; err != nil {
			return err
		}
		if err := tx.SavePoint("sp").Error; err != nil {
			return err
		}
		if tx.Session(&gorm.Session{NewDB: true}).Exec("SELECT 1/0").Error == nil {
			return errors.New("a division by zero went well")
		}
		if err := tx.RollbackTo("sp").Error; err != nil {
			return err
		}
		if err := more(tx, 1); err != nil {
			return err
		}
		return tx.Commit().Error
	}},
	{"rolled back", func(db *gorm.DB, two *pair) error {
		tx := db.Begin()
		if err := changes(tx.Where("1 = 1").Delete(&Patient{}), patientsEach); err != nil {
			return errors.Join(err, tx.Rollback().Error)
		}
		if err := tx.Rollback().Error; err != nil {
			return err
		}
		return more(db, 0)
	}},
	{"DB().BeginTx", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		tx, err := pool.BeginTx(db.Statement.Context, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		res, err := tx.ExecContext(db.Statement.Context, "DELETE FROM visits")
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		return errors.Join(tx.Commit(), count(n, patientsEach+1))
	}},
	{"DB().Exec", func(db *gorm.DB, two *pair) error {
		pool, err := db.DB()
		if err != nil {
			return err
		}
		res, err := pool.ExecContext(db.Statement.Context, "UPDATE visits SET note = $1", "raw")
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return err
		}
		return count(n, patientsEach+1)
	}},
	{"Connection", func(db *gorm.DB, two *pair) error {
		return db.Connection(func(tx *gorm.DB) error {
			return changes(tx.Exec("UPDATE visits SET note = ?", "raw"), patientsEach+1)
		})
	}},
	{"G Create", func(db *gorm.DB, two *pair) error {
		p := Patient{Name: "generic"}
		if err := gorm.G[Patient](db).Create(db.Statement.Context, &p); err != nil {
			return err
		}
		return created(db, two, p)
	}},
	{"G Update", func(db *gorm.DB, two *pair) error {
		n, err := gorm.G[Patient](db).Where("1 = 1").Update(db.Statement.Context, "name", "generic")
		if err != nil {
			return err
		}
		return count(n, patientsEach)
	}},
	{"G Delete", func(db *gorm.DB, two *pair) error {
		n, err := gorm.G[Patient](db).Where("1 = 1").Delete(db.Statement.Context)
		if err != nil {
			return err
		}
		return count(n, patientsEach)
	}},
	{"G Exec", func(db *gorm.DB, two *pair) error {
		err := gorm.G[Patient](db).Exec(db.Statement.Context, "UPDATE patients SET deleted_at = now() WHERE age > ?", 0)
		if err != nil {
			return err
		}
		return more(db, -patientsEach)
	}},
}

// refused checks that PostgreSQL has stopped an attack on the other tenant's rows.
// taken checks what becomes of a row with a primary key that the other tenant has: it is refused, unless each tenant has its own keys.
func taken(db *gorm.DB, two *pair, p *Patient, err error) error {
	if !two.keyed {
		return refused(err)
	}
	if err != nil {
		return err
	}
	return errors.Join(created(db, two, *p), more(db, 1))
}

func refused(err error) error {
	if err == nil {
		return errors.New("the attack went well")
	}
	if denied(err) {
		return nil
	}
	return err
}
