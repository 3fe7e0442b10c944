package webhooks

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
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
		Summary: "List deliveries, the newest first; the filter status:eq:dead finds the dead letters",
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

type output[T any] struct{ Body T }

// listed is a page of rows, as the API shows them.
func listed[R, V any](rows *page.List[R], err error, view func(R) V) (*output[page.List[V]], error) {
	if err != nil {
		return nil, err
	}
	out := &output[page.List[V]]{Body: page.List[V]{Items: make([]V, len(rows.Items)), Next: rows.Next, Total: rows.Total}}
	for i, row := range rows.Items {
		out.Body.Items[i] = view(row)
	}
	return out, nil
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

var endpointList = page.Spec[Endpoint]{
	Name: "webhook endpoints", Sort: "-created_at", Key: page.Field[Endpoint]{SQL: "id", Type: "uuid", Of: func(e Endpoint) string { return e.ID }},
	Fields: map[string]page.Field[Endpoint]{
		"created_at": {SQL: "created_at", Type: "timestamptz", Of: func(e Endpoint) string { return stamp(e.CreatedAt) }},
		"url":        {SQL: "url", Type: "text", Of: func(e Endpoint) string { return e.URL }},
	},
}

var deliveryList = page.Spec[Delivery]{
	Name: "webhook deliveries", Sort: "-created_at", Key: page.Field[Delivery]{SQL: "id", Type: "uuid", Of: func(d Delivery) string { return d.ID }},
	Preload: []string{"Event"},
	Fields: map[string]page.Field[Delivery]{
		"created_at":  {SQL: "created_at", Type: "timestamptz", Of: func(d Delivery) string { return stamp(d.CreatedAt) }},
		"status":      {SQL: "status", Type: "text", Of: func(d Delivery) string { return d.Status }},
		"endpoint_id": {SQL: "endpoint_id", Type: "uuid"},
		"event_id":    {SQL: "event_id", Type: "uuid"},
	},
}

var attemptList = page.Spec[Attempt]{
	Name: "webhook attempts", Sort: "-created_at", Key: page.Field[Attempt]{SQL: "id", Type: "uuid", Of: func(a Attempt) string { return a.ID }},
	Fields: map[string]page.Field[Attempt]{
		"created_at": {SQL: "created_at", Type: "timestamptz", Of: func(a Attempt) string { return stamp(a.CreatedAt) }},
		"status":     {SQL: "status", Type: "integer"},
	},
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

func (r routes) list(ctx context.Context, in *struct{ page.Query }) (*output[page.List[EndpointView]], error) {
	rows, err := page.Find(ctx, r.api.DB(ctx), r.api.Cursors, endpointList, in.Query)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(rows.Items))
	for i, row := range rows.Items {
		ids[i] = row.ID
	}
	breakers, err := breakersOf(r.api.DB(ctx), ids)
	return listed(rows, err, func(e Endpoint) EndpointView { return viewEndpoint(e, breakers[e.ID]) })
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

func (r routes) get(ctx context.Context, in *api.ByID) (*output[EndpointView], error) {
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
	api.ByID
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

func (r routes) remove(ctx context.Context, in *api.ByID) (*struct{}, error) {
	return nil, r.api.Tx(ctx, func(tx *gorm.DB) error { return r.service.Delete(tx, in.ID) })
}

type rotateInput struct {
	api.ByID
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

func (r routes) test(ctx context.Context, in *api.ByID) (*output[DeliveryView], error) {
	out := &output[DeliveryView]{}
	return out, problem(r.api.Tx(ctx, func(tx *gorm.DB) error {
		delivery, err := r.service.Test(tx, in.ID)
		out.Body = viewDelivery(delivery)
		out.Body.EventType = TypeTest
		return err
	}))
}

type sinceInput struct {
	api.ByID
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

func (r routes) deliveries(ctx context.Context, in *struct{ page.Query }) (*output[page.List[DeliveryView]], error) {
	rows, err := page.Find(ctx, r.api.DB(ctx), r.api.Cursors, deliveryList, in.Query)
	return listed(rows, err, viewDelivery)
}

func (r routes) delivery(ctx context.Context, in *api.ByID) (*output[DeliveryView], error) {
	var row Delivery
	err := r.api.DB(ctx).Preload("Event").Take(&row, "id = ?", in.ID).Error
	return &output[DeliveryView]{Body: viewDelivery(row)}, err
}

type attemptsInput struct {
	api.ByID
	page.Query
}

func (r routes) attempts(ctx context.Context, in *attemptsInput) (*output[page.List[AttemptView]], error) {
	if err := r.api.DB(ctx).Select("id").Take(&Delivery{}, "id = ?", in.ID).Error; err != nil {
		return nil, err
	}
	rows, err := page.Find(ctx, r.api.DB(ctx).Where("delivery_id = ?", in.ID), r.api.Cursors, attemptList, in.Query)
	return listed(rows, err, viewAttempt)
}

func (r routes) redeliver(ctx context.Context, in *api.ByID) (*output[DeliveryView], error) {
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
