package app

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/event"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
)

// recorder is a sink that keeps "tenant type" of each event.
type recorder struct {
	mu   sync.Mutex
	seen []string
	fail func()
}

func (r *recorder) Emit(tx *gorm.DB, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	tenant, _ := tenancy.TenantFromContext(tx.Statement.Context)
	if project, ok := e.Payload.(model.Project); ok && e.Type == "project.created" {
		if err := tx.Take(&model.Project{}, "id = ?", project.ID).Error; err != nil {
			return errors.Join(errors.New("not in the transaction of the change"), err)
		}
	}
	r.seen = append(r.seen, tenant+" "+e.Type)
	if r.fail != nil {
		r.fail()
		return errors.New("the sink failed")
	}
	return nil
}

// buffer is a log that is read while the workers write it.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func TestEvents(t *testing.T) {
	_, cfg := configure(t)
	sink := &recorder{}
	cfg.Sinks = event.Sinks{sink}
	acme, globex := clients(t, run(t, cfg))
	project := acme.project("p")
	task := acme.task(project, "t")
	acme.want(http.StatusOK, http.MethodPatch, "/v1/tasks/"+task.id(), object{"status": "done"}, "If-Match", `"1"`)
	acme.want(http.StatusPreconditionFailed, http.MethodPatch, "/v1/tasks/"+task.id(), object{"status": "open"}, "If-Match", `"1"`)
	acme.remove("projects", project.id())
	acme.want(http.StatusOK, http.MethodPost, "/v1/projects/"+project.id()+"/restore", nil)
	for range 2 {
		globex.want(http.StatusCreated, http.MethodPost, "/v1/projects", object{"name": "once"}, "Idempotency-Key", "k")
	}
	require.Equal(t, []string{
		"acme project.created", "acme task.created", "acme task.updated", "acme project.deleted", "acme project.restored",
		"globex project.created",
	}, sink.seen)
}

// TestChangeFailsWithItsEvent, by an error and by a panic: the row is not there either, and neither the answer nor the log shows what it was.
func TestChangeFailsWithItsEvent(t *testing.T) {
	_, cfg := configure(t)
	sink := &recorder{}
	var log buffer
	cfg.Sinks, cfg.Log = event.Sinks{sink}, slog.New(slog.NewTextHandler(&log, nil))
	acme, _ := clients(t, run(t, cfg))
	for name, fail := range map[string]func(){"error": func() {}, "panic": func() { panic("secret name") }} {
		for _, headers := range [][]string{nil, {"Idempotency-Key", name}} {
			sink.fail = fail
			got := acme.want(http.StatusInternalServerError, http.MethodPost, "/v1/projects", object{"name": "secret name"}, headers...)
			require.NotContains(t, got.text, "secret")
			sink.fail = nil
			require.Empty(t, acme.names("/v1/projects?filter=name:eq:secret%20name", "name"), name)
		}
	}
	require.NotContains(t, log.String(), "secret")
	require.Contains(t, log.String(), "request failed")
	require.Contains(t, log.String(), "panic")
	acme.want(http.StatusCreated, http.MethodPost, "/v1/projects", object{"name": "secret name"}, "Idempotency-Key", "error")
}
