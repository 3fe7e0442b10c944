package tenancy_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/gormtenancy/tenancy"
)

type Contact struct {
	ID       int64
	TenantID string
	Email    string `gorm:"unique"`
	Code     string `gorm:"uniqueIndex:contacts_code"`
	Name     string
}

type Pool struct {
	ID       int64
	TenantID string
	Email    string `gorm:"unique"`
}

func (Pool) TenantShared() {}

func TestConflictIsWritten(t *testing.T) {
	on := func(names ...string) clause.OnConflict {
		c := clause.OnConflict{DoNothing: true}
		for _, name := range names {
			c.Columns = append(c.Columns, clause.Column{Name: name})
		}
		return c
	}
	updates := func(c clause.OnConflict, set clause.Set) clause.OnConflict {
		c.DoNothing, c.DoUpdates = false, set
		return c
	}
	all := func(c clause.OnConflict) clause.OnConflict {
		c.DoNothing, c.UpdateAll = false, true
		return c
	}
	const excluded = `"email"="excluded"."email","code"="excluded"."code","name"="excluded"."name"`
	for name, c := range map[string]struct {
		model    any
		conflict clause.OnConflict
		want     string
	}{
		"unique":               {&Contact{}, on("email"), `("tenant_id","email") DO NOTHING`},
		"unique index":         {&Contact{}, on("code"), `("tenant_id","code") DO NOTHING`},
		"named already":        {&Contact{}, on("email", "tenant_id"), `("email","tenant_id") DO NOTHING`},
		"primary key":          {&Contact{}, on("id"), `("id") DO NOTHING`},
		"not unique by a tag":  {&Contact{}, on("name"), `("name") DO NOTHING`},
		"columns of two":       {&Contact{}, on("email", "code"), `("email","code") DO NOTHING`},
		"no columns":           {&Contact{}, on(), `DO NOTHING`},
		"shared":               {&Pool{}, on("email"), `("email") DO NOTHING`},
		"shared, all":          {&Pool{}, all(on("email")), `("email") DO UPDATE SET "tenant_id"="excluded"."tenant_id","email"="excluded"."email"`},
		"all":                  {&Contact{}, all(on("email")), `("tenant_id","email") DO UPDATE SET ` + excluded},
		"all, primary key":     {&Contact{}, all(on()), `("id") DO UPDATE SET ` + excluded},
		"columns":              {&Contact{}, updates(on("id"), clause.AssignmentColumns([]string{"tenant_id", "name"})), `("id") DO UPDATE SET "name"="excluded"."name"`},
		"nothing but the same": {&Contact{}, updates(on("id"), clause.AssignmentColumns([]string{"tenant_id"})), `("id") DO UPDATE SET "tenant_id"="excluded"."tenant_id"`},
		"a value": {&Contact{}, updates(on("code"), clause.Assignments(map[string]any{"tenant_id": acme, "name": "n"})),
			`("tenant_id","code") DO UPDATE SET "name"='n'`},
		"constraint": {&Contact{}, clause.OnConflict{OnConstraint: "uni_contacts_email", DoNothing: true}, `ON CONSTRAINT uni_contacts_email DO NOTHING`},
	} {
		t.Run(name, func(t *testing.T) {
			// What is built twice of one statement is the same.
			db := dry(t, acme).Clauses(c.conflict).Session(&gorm.Session{})
			for range 2 {
				tx := db.Create(c.model)
				require.NoError(t, tx.Error)
				_, sql, _ := strings.Cut(sqlOf(tx), "ON CONFLICT ")
				sql, _, _ = strings.Cut(sql, " RETURNING")
				require.Equal(t, c.want, strings.TrimSpace(sql))
			}
		})
	}
}

// A builder of ON CONFLICT that was there before still writes it.
func TestConflictBuilderOfOthersStays(t *testing.T) {
	called := 0
	db := plain(t, dryRun)
	db.ClauseBuilders["ON CONFLICT"] = func(c clause.Clause, b clause.Builder) { called++; c.Build(b) }
	p := tenancy.New(tenancy.Config{DangerouslyAllowUnsafeRole: true})
	require.NoError(t, db.Use(p))
	require.NoError(t, p.Initialize(db), "as for a replica")
	tx := db.WithContext(as(acme)).Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoNothing: true}).Create(&Contact{})
	require.NoError(t, tx.Error)
	require.Contains(t, sqlOf(tx), `ON CONFLICT ("tenant_id","email") DO NOTHING`)
	require.Equal(t, 1, called)
}

func TestConflictsInParallel(t *testing.T) {
	db := dry(t, acme)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			tx := db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "code"}}, DoNothing: true}).Create(&Contact{})
			if tx.Error != nil || !strings.Contains(sqlOf(tx), `("tenant_id","code")`) {
				t.Error(sqlOf(tx), tx.Error)
			}
		})
	}
	wait.Wait()
}
