package main

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/alexedwards/scs/v2"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/meter"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// config is what the application needs to serve.
type config struct {
	DB        *gorm.DB
	Secure    bool // send cookies over HTTPS only
	Passwords *passwords.Hasher
	Log       *slog.Logger
}

// app holds what lives as long as the program, such as the one client for all clinics and all requests.
type app struct {
	db        *gorm.DB
	secure    bool
	log       *slog.Logger
	passwords *passwords.Hasher
	sessions  *scs.SessionManager
	pages     pages
	clients   *clinicClients
	costs     *costs
}

func newApp(c config) (http.Handler, error) {
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	a := &app{
		db: c.DB, secure: c.Secure, log: c.Log, passwords: c.Passwords, pages: pages,
		sessions: newSessions(newStore(), c.Secure), clients: newClinicClients(c.DB), costs: newCosts(),
	}
	return a.routes()
}

// routes defines who may use which route. A request passes the middleware from the outside in: it is counted, refused if
// another site sent it, and gets its session, its user and, on the pages of a clinic, the clinic as its tenant.
func (a *app) routes() (http.Handler, error) {
	metrics, err := a.metrics()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	tenant := tenanthttp.Middleware(tenanthttp.Func(a.tenant), tenanthttp.Authorize(isMember),
		tenanthttp.OnTenant(meter.Tenant), tenanthttp.OnError(a.refuseTenant))
	anyone := func(h page) http.Handler { return a.session(a.serve(h)) }
	user := func(h page) http.Handler { return a.session(a.requireUser(a.serve(h))) }
	member := func(h page) http.Handler { return a.session(a.requireUser(tenant(a.serve(h)))) }
	admin := func(h page) http.Handler { return a.session(a.requireUser(a.requireAdmin(a.serve(h)))) }

	mux.HandleFunc("GET /static/{name}", staticFile)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.Handle("/", anyone(func(http.ResponseWriter, *http.Request) error { return errNotFound }))
	mux.Handle("GET /login", anyone(a.loginPage))
	mux.Handle("POST /login", anyone(a.login))

	mux.Handle("GET /{$}", user(a.home))
	mux.Handle("POST /logout", user(a.logout))
	mux.Handle("POST /switch", user(a.switchClinic))

	mux.Handle("GET /patients", member(a.listPatients))
	mux.Handle("GET /patients/new", member(a.newPatientPage))
	mux.Handle("POST /patients", member(a.addPatient))
	mux.Handle("GET /patients/{id}", member(a.showPatient))
	mux.Handle("GET /patients/{id}/edit", member(a.editPatientPage))
	mux.Handle("POST /patients/{id}", member(a.editPatient))
	mux.Handle("GET /appointments", member(a.listAppointments))
	mux.Handle("POST /patients/{id}/appointments", member(a.addAppointment))
	mux.Handle("GET /today", member(a.today))

	mux.Handle("GET /admin", admin(a.allPatients))
	mux.Handle("GET /audit", admin(a.auditTrail))
	mux.Handle("GET /stats", admin(a.stats))
	mux.Handle("GET /metrics", admin(metrics))

	count := meter.Requests(a.log, mux, a.costs.add)
	return count(a.headers(a.sameOrigin(mux))), nil
}

// page writes a response, or returns an error before it has written anything.
type page func(http.ResponseWriter, *http.Request) error

var (
	errNotFound = errors.New("not found")
	errNoMember = errors.New("not a member")
)

// serve writes the error page if a page returns an error. A record of another clinic gets the same response as one that does
// not exist.
func (a *app) serve(h page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		switch {
		case err == nil:
		case errors.Is(err, errNotFound), errors.Is(err, gorm.ErrRecordNotFound):
			a.refuse(w, r, http.StatusNotFound)
		case errors.Is(err, errNoMember):
			a.refuse(w, r, http.StatusForbidden)
		default:
			a.fail(w, r, err)
		}
	})
}

// fail answers a request that failed on the server. PostgreSQL's messages can quote values, so only their codes are logged.
func (a *app) fail(w http.ResponseWriter, r *http.Request, err error) {
	a.log.ErrorContext(r.Context(), "request failed", "error", web.Loggable(err), "request_id", meter.RequestID(r.Context()))
	a.refuse(w, r, http.StatusInternalServerError)
}
