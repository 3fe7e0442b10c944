package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/roles"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// The keys of the demo. They are no secrets, and are made only where Config.Demo is set.
const (
	AcmeKey   = "tasks_demo_0000000000004000800000000000ac3e_acmedemokeythatisnosecretatallaahm44b4"
	GlobexKey = "tasks_demo_0000000000004000800000000000610b_globexdemokeythatisnosecretatallxbbyid"
)

// seed makes the two tenants of the demo, each with a key and a project.
func (a *App) seed(ctx context.Context) error {
	for _, t := range []struct{ id, name, key string }{{"acme", "Acme", AcmeKey}, {"globex", "Globex", GlobexKey}} {
		tasks := []model.Task{{Title: "Begin"}, {Title: "Go on"}, {Title: "Finish"}}
		err := a.db.WithContext(tenancy.WithTenant(ctx, t.id)).Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&model.Tenant{ID: t.id, Name: t.name}).Error; err != nil {
				return err
			}
			key := a.demoKey(t.key)
			if err := tx.Create(key).Error; err != nil {
				return err
			}
			if err := roles.Found(tx, "key:"+key.ID); err != nil {
				return err
			}
			project := model.Project{Name: "First project"}
			if err := tx.Create(&project).Error; err != nil {
				return err
			}
			for i := range tasks {
				tasks[i].ProjectID = project.ID
			}
			return tx.Create(tasks).Error
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// demoKey makes the row of a key whose text is known. Other keys are made by apikey.Keys.Create, whose text is random.
func (a *App) demoKey(text string) *apikey.Key {
	parts := strings.Split(text, "_") // tasks, demo, id, secret and checksum
	id := parts[2][:8] + "-" + parts[2][8:12] + "-" + parts[2][12:16] + "-" + parts[2][16:20] + "-" + parts[2][20:]
	mac := hmac.New(sha256.New, a.derive("API keys"))
	mac.Write([]byte(id + "_" + parts[3][:32]))
	return &apikey.Key{ID: id, Name: "demo", Scopes: strings.Join(api.Scopes, " "), Hash: mac.Sum(nil), Pepper: 1, CreatedAt: time.Now()}
}

// Try says what to try first.
func (a *App) Try() string {
	return `
Open http://localhost:PORT, which shows what happens, and http://localhost:PORT/docs, the documentation of the API.
Try, in another terminal:

  curl -s http://localhost:PORT/v1/projects -H 'X-API-Key: ` + AcmeKey + `'
  curl -s http://localhost:PORT/v1/projects -H 'X-API-Key: ` + GlobexKey + `'
`
}
