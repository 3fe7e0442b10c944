package webhooks

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
)

// The scopes of the routes.
const (
	scopeRead  = "webhooks:read"
	scopeWrite = "webhooks:write"
)

// routes are the handlers of the package.
type routes struct {
	api     *api.API
	service *Service
}

// AddRoutes adds the routes of the package to the API.
func (s *Service) AddRoutes(a *api.API) {
	r := routes{a, s}
	const endpoints, endpoint = "/v1/webhooks/endpoints", "/v1/webhooks/endpoints/{id}"
	const deliveries, delivery = "/v1/webhooks/deliveries", "/v1/webhooks/deliveries/{id}"
	missing, conflict := http.StatusNotFound, http.StatusConflict
	api.Add(a, api.Route{Method: http.MethodGet, Path: endpoints, ID: "listWebhookEndpoints", Summary: "List endpoints", Permission: scopeRead}, r.list)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: endpoints, ID: "createWebhookEndpoint", Summary: "Register an endpoint", Permission: scopeWrite,
		Status: http.StatusCreated, ShowsSecret: true, Errors: []int{conflict},
	}, r.create)
	api.Add(a, api.Route{
		Method: http.MethodGet, Path: endpoint, ID: "getWebhookEndpoint", Summary: "Get an endpoint", Permission: scopeRead, Errors: []int{missing},
	}, r.get)
	api.Add(a, api.Route{
		Method: http.MethodPut, Path: endpoint, ID: "updateWebhookEndpoint", Summary: "Change an endpoint", Permission: scopeWrite,
		Errors: []int{missing, http.StatusPreconditionFailed},
	}, r.update)
	api.Add(a, api.Route{
		Method: http.MethodDelete, Path: endpoint, ID: "deleteWebhookEndpoint", Summary: "Delete an endpoint", Permission: scopeWrite,
		Errors: []int{missing},
	}, r.remove)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: endpoint + "/rotate", ID: "rotateWebhookSecret", Summary: "Give an endpoint a new secret",
		Permission: scopeWrite, ShowsSecret: true, Errors: []int{missing},
	}, r.rotate)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: endpoint + "/test", ID: "testWebhookEndpoint", Summary: "Send a test event to an endpoint",
		Permission: scopeWrite, Status: http.StatusAccepted, Errors: []int{missing, conflict},
	}, r.test)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: endpoint + "/redeliver", ID: "redeliverWebhooksSince", Permission: scopeWrite,
		Summary: "Deliver again what an endpoint has missed since a time", Status: http.StatusAccepted, Errors: []int{missing, conflict},
	}, r.redeliverSince)
	api.Add(a, api.Route{
		Method: http.MethodGet, Path: deliveries, ID: "listWebhookDeliveries", Permission: scopeRead,
		Summary: "List deliveries, the newest first; those with the status dead are the dead letters",
	}, r.deliveries)
	api.Add(a, api.Route{
		Method: http.MethodGet, Path: delivery, ID: "getWebhookDelivery", Summary: "Get a delivery", Permission: scopeRead, Errors: []int{missing},
	}, r.delivery)
	api.Add(a, api.Route{
		Method: http.MethodGet, Path: delivery + "/attempts", ID: "listWebhookAttempts", Permission: scopeRead,
		Summary: "List the attempts of a delivery, the newest first", Errors: []int{missing},
	}, r.attempts)
	api.Add(a, api.Route{
		Method: http.MethodPost, Path: delivery + "/redeliver", ID: "redeliverWebhook", Summary: "Deliver a delivery again",
		Permission: scopeWrite, Status: http.StatusAccepted, Errors: []int{missing, conflict},
	}, r.redeliver)
}

// ByID is the input of routes about one row. It is exported, as Page is, because huma leaves out embedded fields that are not.
type ByID struct {
	ID string `path:"id" format:"uuid"`
}

// Page is the input of lists. They are read by id, the newest first.
type Page struct {
	Limit int    `query:"limit" minimum:"1" maximum:"100" default:"20"`
	After string `query:"after" format:"uuid" doc:"The next of the page before"`
}

// of limits a query to the page, and one row more, which shows that there is a next page.
func (p Page) of(db *gorm.DB) *gorm.DB {
	if p.After != "" {
		db = db.Where("id < ?", p.After)
	}
	return db.Order("id DESC").Limit(p.Limit + 1)
}

// list is the body of lists.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"What the next page comes after; absent on the last page"`
}

type output[T any] struct{ Body T }

// pageOf makes a list of rows, of which there is one too many if there is a next page.
func pageOf[R, V any](p Page, rows []R, id func(R) string, view func(R) V) *output[list[V]] {
	out := &output[list[V]]{Body: list[V]{Items: []V{}}}
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		out.Body.Next = id(rows[p.Limit-1])
	}
	for _, row := range rows {
		out.Body.Items = append(out.Body.Items, view(row))
	}
	return out
}

// problem makes answers of the package's errors.
func problem(err error) error {
	var target targetError
	switch {
	case errors.As(err, &target):
		return huma.Error422UnprocessableEntity(target.Error())
	case errors.Is(err, ErrTooMany):
		return huma.Error409Conflict("there are as many endpoints as a tenant can have: delete one first")
	case errors.Is(err, ErrDisabled):
		return huma.Error409Conflict("the endpoint is disabled: enable it first")
	case errors.Is(err, ErrPending):
		return huma.Error409Conflict("the delivery is under way: wait until it is delivered or dead")
	case errors.Is(err, ErrChanged):
		return api.ErrChanged
	}
	return err
}

// endpointInput is what a client says of an endpoint.
type endpointInput struct {
	URL         string   `json:"url" maxLength:"2048" doc:"It begins with https://, and its host has public addresses only"`
	Description string   `json:"description,omitempty" maxLength:"200"`
	Types       []string `json:"types" minItems:"1" maxItems:"50" nullable:"false" doc:"Types of events, such as task.created, or * for all"`
	Disabled    bool     `json:"disabled,omitempty"`
}

// Resolve implements huma.Resolver: it checks the types.
func (e *endpointInput) Resolve(huma.Context) []error {
	for _, eventType := range e.Types {
		if eventType != AllTypes && !isType(eventType) {
			return []error{&huma.ErrorDetail{Location: "body.types", Message: "a type is like task.created, or *"}}
		}
	}
	return nil
}

func (e *endpointInput) settings() Settings {
	return Settings{URL: e.URL, Description: e.Description, Types: e.Types, Disabled: e.Disabled}
}

func (r routes) list(ctx context.Context, p *Page) (*output[list[EndpointView]], error) {
	var rows []Endpoint
	if err := p.of(r.api.DB(ctx)).Find(&rows).Error; err != nil {
		return nil, err
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	breakers, err := breakersOf(r.api.DB(ctx), ids)
	return pageOf(*p, rows, func(e Endpoint) string { return e.ID }, func(e Endpoint) EndpointView { return viewEndpoint(e, breakers[e.ID]) }), err
}

type secretView struct {
	EndpointView
	Secret string `json:"secret" doc:"It is not shown again"`
}

func (r routes) create(ctx context.Context, in *struct{ Body endpointInput }) (*output[secretView], error) {
	out := &output[secretView]{}
	return out, problem(r.api.Tx(ctx, func(tx *gorm.DB) error {
		endpoint, secret, err := r.service.Create(tx, in.Body.settings())
		out.Body = secretView{viewEndpoint(endpoint, Breaker{}), secret}
		return err
	}))
}

func (r routes) get(ctx context.Context, in *ByID) (*output[EndpointView], error) {
	var endpoint Endpoint
	if err := r.api.DB(ctx).Take(&endpoint, "id = ?", in.ID).Error; err != nil {
		return nil, err
	}
	return r.show(r.api.DB(ctx), endpoint)
}

func (r routes) show(db *gorm.DB, endpoint Endpoint) (*output[EndpointView], error) {
	breakers, err := breakersOf(db, []string{endpoint.ID})
	return &output[EndpointView]{Body: viewEndpoint(endpoint, breakers[endpoint.ID])}, err
}

type updateInput struct {
	ByID
	Version int64 `query:"version" minimum:"1" doc:"The version that is changed: it fails if there is a newer one"`
	Body    endpointInput
}

func (r routes) update(ctx context.Context, in *updateInput) (out *output[EndpointView], err error) {
	err = r.api.Tx(ctx, func(tx *gorm.DB) error {
		endpoint, err := r.service.Update(tx, in.ID, in.Version, in.Body.settings())
		if err != nil {
			return err
		}
		out, err = r.show(tx, endpoint)
		return err
	})
	return out, problem(err)
}

func (r routes) remove(ctx context.Context, in *ByID) (*struct{}, error) {
	return nil, r.api.Tx(ctx, func(tx *gorm.DB) error { return r.service.Delete(tx, in.ID) })
}

type rotateInput struct {
	ByID
	Body struct {
		OverlapSeconds int `json:"overlap_seconds" minimum:"0" maximum:"604800" doc:"How long the old secrets stay valid: 0 for one that has become known"`
	}
}

type rotateOutput struct {
	Secret   string    `json:"secret" doc:"It is not shown again"`
	OldUntil time.Time `json:"old_until" doc:"Until then messages are signed with the old secrets, too"`
}

func (r routes) rotate(ctx context.Context, in *rotateInput) (*output[rotateOutput], error) {
	out := &output[rotateOutput]{}
	return out, r.api.Tx(ctx, func(tx *gorm.DB) (err error) {
		out.Body.Secret, out.Body.OldUntil, err = r.service.Rotate(tx, in.ID, time.Duration(in.Body.OverlapSeconds)*time.Second)
		return err
	})
}

func (r routes) test(ctx context.Context, in *ByID) (*output[DeliveryView], error) {
	out := &output[DeliveryView]{}
	return out, problem(r.api.Tx(ctx, func(tx *gorm.DB) error {
		delivery, err := r.service.Test(tx, in.ID)
		out.Body = viewDelivery(delivery)
		out.Body.EventType = TypeTest
		return err
	}))
}

type sinceInput struct {
	ByID
	Body struct {
		Since time.Time `json:"since" format:"date-time"`
	}
}

type sinceOutput struct {
	Begun int  `json:"begun" doc:"How many deliveries have begun"`
	More  bool `json:"more" doc:"There may be more: ask again"`
}

func (r routes) redeliverSince(ctx context.Context, in *sinceInput) (*output[sinceOutput], error) {
	out := &output[sinceOutput]{}
	return out, problem(r.api.Tx(ctx, func(tx *gorm.DB) (err error) {
		out.Body.Begun, err = r.service.RedeliverSince(tx, in.ID, in.Body.Since)
		out.Body.More = out.Body.Begun >= maxRedeliveries
		return err
	}))
}

type deliveriesInput struct {
	Page
	Status     string `query:"status" enum:"pending,delivered,dead"`
	EndpointID string `query:"endpoint_id" format:"uuid"`
}

func (r routes) deliveries(ctx context.Context, in *deliveriesInput) (*output[list[DeliveryView]], error) {
	query := r.api.DB(ctx).Preload("Event", func(tx *gorm.DB) *gorm.DB { return tx.Select("id", "type") })
	if in.Status != "" {
		query = query.Where("status = ?", in.Status)
	}
	if in.EndpointID != "" {
		query = query.Where("endpoint_id = ?", in.EndpointID)
	}
	var rows []Delivery
	err := in.of(query).Find(&rows).Error
	return pageOf(in.Page, rows, func(d Delivery) string { return d.ID }, viewDelivery), err
}

func (r routes) delivery(ctx context.Context, in *ByID) (*output[DeliveryView], error) {
	var row Delivery
	err := r.api.DB(ctx).Preload("Event").Take(&row, "id = ?", in.ID).Error
	return &output[DeliveryView]{Body: viewDelivery(row)}, err
}

type attemptsInput struct {
	ByID
	Page
}

func (r routes) attempts(ctx context.Context, in *attemptsInput) (*output[list[AttemptView]], error) {
	if err := r.api.DB(ctx).Select("id").Take(&Delivery{}, "id = ?", in.ID).Error; err != nil {
		return nil, err
	}
	var rows []Attempt
	err := in.of(r.api.DB(ctx).Where("delivery_id = ?", in.ID)).Find(&rows).Error
	return pageOf(in.Page, rows, func(a Attempt) string { return a.ID }, viewAttempt), err
}

func (r routes) redeliver(ctx context.Context, in *ByID) (*output[DeliveryView], error) {
	out := &output[DeliveryView]{}
	return out, problem(r.api.Tx(ctx, func(tx *gorm.DB) error {
		delivery, err := r.service.Redeliver(tx, in.ID)
		if err != nil {
			return err
		}
		if err := tx.Preload("Event").Take(&delivery, "id = ?", delivery.ID).Error; err != nil {
			return err
		}
		out.Body = viewDelivery(delivery)
		return nil
	}))
}
