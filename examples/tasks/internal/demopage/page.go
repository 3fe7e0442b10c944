// Package demopage is a page that shows what happens to a task: the row, its audit record, the jobs, the webhook, and that another tenant sees
// none of it. It is for the demonstration alone, because it gives away the keys of its tenants.
package demopage

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

//go:embed assets
var assets embed.FS

// Tenant is a tenant of the page, with the key that the page uses.
type Tenant struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Key  string `json:"key"`
}

// Page serves the page, and what it asks for beside the API. Close ends it.
type Page struct {
	db       *gorm.DB
	tenants  []Tenant
	receiver *receiver
	mux      *http.ServeMux
	log      func(context.Context, error)
}

// New makes a page for two tenants of a database with the plugin, and starts the receiver of their webhooks. What goes wrong is given to log,
// which must show no value of a row.
func New(db *gorm.DB, log func(context.Context, error), tenants ...Tenant) (*Page, error) {
	if len(tenants) != 2 {
		return nil, errors.New("demopage: the page shows two tenants")
	}
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		return nil, err
	}
	p := &Page{db: db, tenants: tenants, mux: http.NewServeMux(), log: log}
	if p.receiver, err = newReceiver(); err != nil {
		return nil, err
	}
	static := http.FileServerFS(files)
	for _, path := range []string{"/{$}", "/page.css", "/page.js"} {
		p.mux.Handle("GET "+path, static)
	}
	p.mux.HandleFunc("GET /demo/tenants", func(w http.ResponseWriter, r *http.Request) { p.answer(w, r, p.tenants) })
	p.mux.HandleFunc("GET /demo/state", p.state)
	return p, nil
}

// Endpoint is where a tenant's webhooks are received.
func (p *Page) Endpoint(tenant string) string { return p.receiver.url + "/" + tenant }

// Trust tells the receiver the secret of a tenant's endpoint.
func (p *Page) Trust(tenant, secret string) error { return p.receiver.trust(tenant, secret) }

// Close ends the receiver. A nil Page has none.
func (p *Page) Close() error {
	if p == nil {
		return nil
	}
	return p.receiver.close()
}

// policy lets the page load its own files, and nothing else. The script makes no HTML of texts.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Handler serves the page, and leaves everything else to next.
func (p *Page) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, pattern := p.mux.Handler(r)
		if pattern == "" {
			next.ServeHTTP(w, r)
			return
		}
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// State is what a tenant sees that the API does not show.
type State struct {
	Jobs     []Job     `json:"jobs"`
	Received []Message `json:"received"`
}

// Job is a job of a tenant, the newest first.
type Job struct {
	Kind  string `json:"kind"`
	State string `json:"state"`
	Event string `json:"event"` // what it is about
}

// jobs finds the jobs that policies show the tenant, and the events that they are about.
const jobs = `SELECT j.kind, j.state::text, coalesce(j.args->>'event', d.event_id::text, '') AS event
	FROM river_job j LEFT JOIN webhook_deliveries d ON d.id::text = j.args->>'delivery'
	WHERE j.kind LIKE 'webhook%' ORDER BY j.id DESC LIMIT 20`

// state answers with what the tenant of the key sees.
func (p *Page) state(w http.ResponseWriter, r *http.Request) {
	for _, tenant := range p.tenants {
		if r.Header.Get("X-API-Key") != tenant.Key {
			continue
		}
		ctx, cancel := context.WithTimeout(tenancy.WithTenant(r.Context(), tenant.ID), 5*time.Second)
		defer cancel()
		state := State{Jobs: []Job{}, Received: p.receiver.of(tenant.ID)}
		if err := p.db.WithContext(ctx).Raw(jobs).Scan(&state.Jobs).Error; err != nil {
			p.log(ctx, err)
			http.Error(w, "the server failed", http.StatusInternalServerError)
			return
		}
		p.answer(w, r, state)
		return
	}
	http.Error(w, "send the key of a tenant of the demonstration as X-API-Key", http.StatusUnauthorized)
}

func (p *Page) answer(w http.ResponseWriter, r *http.Request, body any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		p.log(r.Context(), err)
	}
}
