package api

import (
	"context"
	"net/http"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

func (a *API) signUp() {
	DangerouslyAddPublic(a, Route{
		Method: http.MethodPost, Path: "/v1/signup", ID: "signUp", Summary: "Make a tenant, and its first key",
		Status: http.StatusCreated, ShowsSecret: true, Errors: []int{409},
	}, a.makeTenant)
}

// SignUp is a new tenant.
type SignUp struct {
	Tenant string `json:"tenant" pattern:"^[a-z][a-z0-9-]{1,30}[a-z0-9]$" doc:"The id of the tenant, which never changes" example:"initech"`
	Name   string `json:"name" minLength:"1" maxLength:"100" example:"Initech"`
}

// SignedUp is a tenant with its first key.
type SignedUp struct {
	Tenant model.Tenant `json:"tenant"`
	Key    NewKey       `json:"key"`
}

// makeTenant makes a tenant as that tenant, so that no bypass is needed: a tenant may write its own row, and a second one of the same id is refused
// before anything else happens. The tenant and its key are there both, or neither.
func (a *API) makeTenant(ctx context.Context, in *struct{ Body SignUp }) (*struct{ Body SignedUp }, error) {
	out := &struct{ Body SignedUp }{}
	out.Body.Tenant = model.Tenant{ID: in.Body.Tenant, Name: in.Body.Name}
	ctx = tenancy.WithActor(tenancy.WithTenant(ctx, in.Body.Tenant), "sign-up")
	err := a.Tx(ctx, func(tx *gorm.DB) error {
		if err := tx.Create(&out.Body.Tenant).Error; err != nil {
			return err
		}
		keys, err := a.KeysIn(tx)
		if err != nil {
			return err
		}
		text, key, err := keys.Create(ctx, apikey.Options{Name: "first key", Scopes: Scopes})
		if err != nil {
			return err
		}
		out.Body.Key = NewKey{Key: key, Text: text}
		if a.Seams.SignedUp == nil {
			return nil
		}
		return a.Seams.SignedUp(tx, "key:"+key.ID)
	})
	return out, err
}
