package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/page"
	"github.com/gormtenancy/tenancy/rls"
)

func (a *API) audit() {
	Add(a, Route{Method: http.MethodGet, Path: "/v1/audit", ID: "listAudit", Permission: "audit:read", Summary: "List changes of rows"}, a.listAudit)
}

// Change is a change of a row. PostgreSQL records it, whatever statement has made it. The number of the record is not shown, because it counts the
// changes of all tenants.
type Change struct {
	At        time.Time       `json:"at"`
	Operation string          `json:"operation" enum:"INSERT,UPDATE,DELETE"`
	Table     string          `json:"table" example:"tasks"`
	Key       json.RawMessage `json:"key,omitempty" doc:"The primary key"`
	Before    json.RawMessage `json:"before,omitempty" doc:"The row before, of an UPDATE the columns that it has changed"`
	After     json.RawMessage `json:"after,omitempty" doc:"The row after, of an UPDATE the columns that it has changed"`
	Actor     *string         `json:"actor,omitempty" example:"key:00000000-0000-4000-8000-00000000ac3e"`
	RequestID *string         `json:"request_id,omitempty" doc:"The X-Request-Id of the answer"`
	Reason    *string         `json:"reason,omitempty" doc:"Of the admin client"`
}

var auditList = page.Spec[rls.AuditRecord]{
	Name: "audit", Sort: "-made",
	Key: page.Field[rls.AuditRecord]{SQL: "id", Type: "bigint", Of: auditID},
	Fields: map[string]page.Field[rls.AuditRecord]{
		"made":       {SQL: "id", Type: "bigint", Of: auditID},
		"at":         {SQL: "at", Type: "timestamptz", Of: func(r rls.AuditRecord) string { return stamp(r.At) }},
		"table":      {SQL: "table_name", Type: "text"},
		"operation":  {SQL: "operation", Type: "text"},
		"actor":      {SQL: "COALESCE(actor, '')", Type: "text"},
		"request_id": {SQL: "COALESCE(request_id, '')", Type: "text"},
	},
}

func auditID(r rls.AuditRecord) string { return strconv.FormatInt(r.ID, 10) }

func (a *API) listAudit(ctx context.Context, in *struct{ page.Query }) (*listed[Change], error) {
	found, err := page.Find(ctx, a.DB(ctx), a.Cursors, auditList, in.Query)
	if err != nil {
		return nil, err
	}
	list := &page.List[Change]{Items: []Change{}, Next: found.Next, Total: found.Total}
	for _, r := range found.Items {
		list.Items = append(list.Items, Change{
			r.At, r.Operation, r.Table, r.Key, r.Before, r.After, r.Actor, r.RequestID, r.Reason,
		})
	}
	return &listed[Change]{list}, nil
}
