package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
)

func (a *API) summary() {
	Add(a, Route{Method: http.MethodGet, Path: "/v1/summary", ID: "getSummary", Permission: "tasks:read", Summary: "Count tasks"}, a.getSummary)
}

// Summary counts what lives. It may be some seconds old.
type Summary struct {
	Projects int64     `json:"projects"`
	Open     int64     `json:"open"`
	Done     int64     `json:"done"`
	AsOf     time.Time `json:"as_of"`
}

// getSummary is kept in memory for a while: under a key that has the tenant (tenancy.Key), so that no tenant is shown another's.
func (a *API) getSummary(ctx context.Context, _ *struct{}) (*struct{ Body Summary }, error) {
	s, err := a.summaries.Get(ctx, a.summarise)
	return &struct{ Body Summary }{s}, err
}

func (a *API) summarise(ctx context.Context) (Summary, error) {
	s := Summary{AsOf: time.Now()}
	if err := a.DB(ctx).Model(&model.Project{}).Count(&s.Projects).Error; err != nil {
		return s, err
	}
	counts := "COUNT(*) FILTER (WHERE status = ?) AS open, COUNT(*) FILTER (WHERE status = ?) AS done"
	return s, a.DB(ctx).Model(&model.Task{}).Select(counts, model.Open, model.Done).Take(&s).Error
}

// SummaryAge is how old a summary may be.
const SummaryAge = 5 * time.Second
