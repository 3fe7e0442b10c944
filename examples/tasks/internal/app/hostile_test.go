package app

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/limit"
	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// hostile is an application with a tenant that has everything, and one that wants it. What the victim's rows say is not known to the attacker,
// so that it can be in an answer only if the row was read.
type hostile struct {
	t        *testing.T
	database *pgserver.Database
	cfg      Config
	document *openapi3.T
	described
	rng *mathrand.Rand

	victim, attacker party
	receiver         *httptest.Server
	canary           string  // is in every row of the victim
	log              *buffer // of the application and of everything that logs by default
	mu               sync.Mutex
	secrets          []string // that no log may have
	once             sync.Once
	ring             keyring // of keys
}

// party is a tenant with a row of each kind.
type party struct {
	client
	tenant string
	ids    map[string]string // by the part of a path that comes before the id: "projects"
	cursor string            // of its tasks
	secret string            // of its endpoint
}

// seed of the run: the environment's, to repeat one, or a new one.
func seed(t *testing.T) uint64 {
	t.Helper()
	s, err := strconv.ParseUint(os.Getenv("TASKS_SEED"), 10, 64)
	if err != nil {
		var random [8]byte
		_, _ = rand.Read(random[:])
		for _, b := range random {
			s = s<<8 | uint64(b)
		}
	}
	t.Logf("TASKS_SEED=%d repeats this run", s)
	return s
}

func newHostile(t *testing.T) *hostile {
	t.Helper()
	h := &hostile{t: t, log: &buffer{}, rng: mathrand.New(mathrand.NewPCG(seed(t), 0)), canary: "canary" + strings.ToLower(rand.Text())}
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	t.Cleanup(func() { slog.SetDefault(before) })
	h.receiver = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		for signature := range strings.FieldsSeq(r.Header.Get("webhook-signature")) {
			h.secret(strings.TrimPrefix(signature, "v1,"))
		}
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(h.receiver.Close)
	many := limit.Rate{Burst: 1_000_000, Every: time.Millisecond}
	app := start(t, func(d *pgserver.Database, cfg *Config) {
		h.database = d
		cfg.Log, cfg.DangerouslyAllowLoopbackWebhooks = slog.Default(), true
		cfg.Limits = limit.Config{Tenant: many, Caller: many, Address: many}
		for _, login := range []Login{cfg.Owner, cfg.App, cfg.Worker} {
			dsn, err := url.Parse(login.DSN)
			require.NoError(t, err)
			password, _ := dsn.User.Password()
			h.secret(password)
		}
		h.cfg = *cfg
	})
	h.described = describe(t, app.Handler())
	_, h.document = documentOf(t, h.handler)
	h.victim = h.party("victim", h.canary)
	h.attacker = h.party("attacker", "own")
	return h
}

// secret remembers what no log may have.
func (h *hostile) secret(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(text) > 6 {
		h.secrets = append(h.secrets, text)
	}
}

// party signs up a tenant, and makes a row of each kind, with the mark in it.
func (h *hostile) party(tenant, mark string) party {
	t := h.t
	t.Helper()
	anyone := client{t, h.handler, ""}
	key := anyone.want(http.StatusCreated, http.MethodPost, "/v1/signup", object{"tenant": tenant, "name": mark}).body["key"].(object)["key"].(string)
	p := party{client: client{t, h.handler, key}, tenant: tenant, ids: map[string]string{}}
	h.secret(key)
	project := p.project(mark + " project")
	p.project(mark + " second project")
	task := p.task(project, mark+" task")
	p.task(project, mark+" second task")
	label := p.label(mark + " label")
	p.want(http.StatusOK, http.MethodPut, "/v1/tasks/"+task.id()+"/labels/"+label.id(), nil)
	made := p.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": mark + " key", "scopes": []string{"tasks:read"}})
	h.secret(made.body["key"].(string))
	hook := p.want(http.StatusCreated, http.MethodPost, "/v1/webhooks/endpoints",
		object{"url": h.receiver.URL + "/" + mark, "types": []string{"webhook.test"}, "description": mark})
	p.secret = hook.body["secret"].(string)
	h.secret(p.secret)
	delivery := p.want(http.StatusAccepted, http.MethodPost, "/v1/webhooks/endpoints/"+hook.id()+"/test", nil)
	p.ids = map[string]string{
		"projects": project.id(), "tasks": task.id(), "comments": p.comment(task, mark).id(), "attachments": p.attachment(task, mark).id(),
		"labels": label.id(), "keys": made.id(), "endpoints": hook.id(), "deliveries": delivery.id(), "email": "person@" + tenant + ".example",
	}
	p.want(http.StatusCreated, http.MethodPost, "/v1/members", object{"email": p.ids["email"], "name": mark, "key_id": made.id()})
	p.want(http.StatusNoContent, http.MethodPut, "/v1/flags/theme/override", object{"variant": "dark", "subject": mark})
	p.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + mark, "role": "viewer"})
	p.want(http.StatusCreated, http.MethodPost, "/v1/labels", object{"name": mark + " once"}, "Idempotency-Key", "theirs")
	p.cursor = p.want(http.StatusOK, http.MethodGet, "/v1/tasks?limit=1", nil).body["next"].(string)
	require.Eventually(t, func() bool {
		return p.want(http.StatusOK, http.MethodGet, "/v1/webhooks/deliveries/"+delivery.id(), nil).body["status"] == "delivered"
	}, time.Minute, 10*time.Millisecond)
	return p
}

// superuser connects as one, who sees all rows.
func superuser(t *testing.T, d *pgserver.Database) *gorm.DB {
	t.Helper()
	dsn, err := url.Parse(pgserver.Shared(t).DSN())
	require.NoError(t, err)
	dsn.Path = "/" + d.Name
	db, err := connect(dsn.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, disconnect(db)) })
	return db
}

// rows returns all rows of a tenant, table by table. When a key was used last is not part of it, and jobs are those of webhooks.
func (h *hostile) rows(db *gorm.DB, tenant string) map[string]string {
	h.t.Helper()
	var tables []string
	require.NoError(h.t, db.Raw(`SELECT table_name FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
		WHERE table_schema = 'public' AND column_name = 'tenant_id' AND table_type = 'BASE TABLE'`).Scan(&tables).Error)
	require.Greater(h.t, len(tables), 15)
	all := map[string]string{}
	for _, table := range tables {
		where := "tenant_id = ?"
		if table == "river_job" {
			where += " AND kind LIKE 'webhook%'"
		}
		var text string
		sql := fmt.Sprintf("SELECT COALESCE(string_agg(text, E'\\n' ORDER BY text), '') FROM (SELECT (to_jsonb(t) - 'last_used_at')::text AS text FROM %q t WHERE %s) r", table, where)
		require.NoError(h.t, db.Raw(sql, tenant).Scan(&text).Error)
		all[table] = text
	}
	return all
}

// attempt is a request of the attacker.
type attempt struct {
	what         string
	method, path string
	body         []byte
	header       http.Header
	refused      bool // it must not succeed
	missing      bool // its answer must be that of what does not exist
	nothing      bool // if it is a list, it must be empty
}

// send sends an attempt, and returns what is wrong with its answer.
func (h *hostile) send(a attempt) (status int, wrong error) {
	r := httptest.NewRequestWithContext(h.t.Context(), a.method, "http://tasks.example/", bytes.NewReader(a.body))
	address, err := url.Parse("http://tasks.example" + a.path)
	if err != nil {
		return 0, fmt.Errorf("the test's own path: %w", err)
	}
	r.URL, r.RequestURI = address, a.path
	r.Header = a.header.Clone()
	if host := a.header.Get("Host"); host != "" {
		r.Host = host
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w.Code, h.judge(a, r, w)
}

func (h *hostile) judge(a attempt, r *http.Request, w *httptest.ResponseRecorder) error {
	text := w.Body.String()
	switch {
	case w.Code >= 500:
		return fmt.Errorf("status %d: %.300s", w.Code, text)
	case strings.Contains(text, h.canary) || strings.Contains(fmt.Sprint(w.Header()), h.canary):
		return fmt.Errorf("a row of the victim: %.300s", text)
	case strings.Contains(text, h.victim.secret) || strings.Contains(text, "SQLSTATE"):
		return fmt.Errorf("a secret or an error of PostgreSQL: %.300s", text)
	case a.refused && w.Code < 400:
		return fmt.Errorf("it has succeeded with %d: %.300s", w.Code, text)
	case a.missing && w.Code != http.StatusNotFound:
		return fmt.Errorf("status %d says that there is something: %.300s", w.Code, text)
	}
	if w.Code >= 400 && a.method != http.MethodHead {
		var problem struct{ Status int }
		if w.Header().Get("Content-Type") != "application/problem+json" || json.Unmarshal(w.Body.Bytes(), &problem) != nil || problem.Status != w.Code {
			return fmt.Errorf("status %d without a problem: %q %.300s", w.Code, w.Header().Get("Content-Type"), text)
		}
	}
	if a.nothing && w.Code == http.StatusOK {
		var list struct {
			Items []any
			Total int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Items) > 0 || list.Total > 0 {
			return fmt.Errorf("it says something about the victim's row: %.300s", text)
		}
	}
	if !slices.Contains([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, a.method) {
		return nil
	}
	if route, _, err := h.router.FindRoute(r); err != nil || route.Operation.Responses.Status(w.Code) == nil {
		return nil // the document does not describe it: a body that is too large, for example
	}
	if err := h.check(r, w); err != nil {
		return fmt.Errorf("an answer that is not as the document says: %w", err)
	}
	return nil
}

// TestHostileRequests against every operation of the document: no row of another tenant is read or changed, no answer is an error of the server,
// and no secret is in a log. The seed chooses among the attempts; TASKS_ATTEMPTS are how many each operation gets, 30 if it is not set.
func TestHostileRequests(t *testing.T) {
	h := newHostile(t)
	db := superuser(t, h.database)
	before := h.rows(db, h.victim.tenant)
	for _, table := range []string{"projects", "tasks", "comments", "attachments", "labels", "task_labels", "api_keys", "webhook_endpoints",
		"webhook_secrets", "webhook_deliveries", "webhook_attempts", "flag_overrides", "role_grants", "members", "tenancy_audit", "idempotency_records"} {
		require.NotEmpty(t, before[table], table)
	}
	budget, err := strconv.Atoi(cmp.Or(os.Getenv("TASKS_ATTEMPTS"), "30"))
	require.NoError(t, err)
	var all []attempt
	for _, o := range h.operations() {
		h.succeeds(o) // so that it is not for a mistake of the test that attempts are refused
		all = append(all, h.attempts(o, budget)...)
	}
	statuses, wrong := h.sendAll(all)
	t.Logf("%d requests: %v", len(all), statuses)
	require.Empty(t, wrong)
	require.Equal(t, before, h.rows(db, h.victim.tenant), "the victim's rows are as they were")
	h.requireQuietLog()
}

// TestHostileRequestsGetThroughWithoutPolicies: the attempts that name rows of the victim find them then, by each operation that has an id in its
// path, so that TestHostileRequests shows what the policies are good for.
func TestHostileRequestsGetThroughWithoutPolicies(t *testing.T) {
	h := newHostile(t)
	cfg := h.cfg
	cfg.Demo, cfg.open = false, withoutPolicies(t, h.database)
	h.handler = run(t, cfg).Handler()
	h.attacker.h, h.victim.h = h.handler, h.handler
	for _, o := range h.operations() {
		if !strings.Contains(o.path, "/{id}") {
			continue
		}
		h.victim.ids = h.own(h.victim, o)
		through := false
		for _, a := range h.foreignIDs(o) {
			_, wrong := h.send(a)
			through = through || wrong != nil
		}
		require.True(t, through, o.OperationID)
		h.victim.do(http.MethodDelete, "/v1/webhooks/endpoints/"+h.victim.ids["endpoints"], nil) // there is a limit
	}
}

// sendAll sends attempts, several at a time.
func (h *hostile) sendAll(all []attempt) (statuses map[int]int, wrong []string) {
	var mu sync.Mutex
	var senders sync.WaitGroup
	statuses, next := map[int]int{}, make(chan attempt)
	for range 8 {
		senders.Go(func() {
			for a := range next {
				status, err := h.send(a)
				mu.Lock()
				statuses[status]++
				if err != nil && len(wrong) < 20 {
					wrong = append(wrong, fmt.Sprintf("%s: %s %.200s %.200q %v: %v", a.what, a.method, a.path, a.body, a.header, err))
				}
				mu.Unlock()
			}
		})
	}
	for _, a := range all {
		next <- a
	}
	close(next)
	senders.Wait()
	return statuses, wrong
}

// requireQuietLog checks that no secret, and nothing of the victim, is in a log.
func (h *hostile) requireQuietLog() {
	h.t.Helper()
	text := h.log.String()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Greater(h.t, len(h.secrets), 8)
	for _, secret := range append(slices.Clone(h.secrets), h.canary) {
		require.False(h.t, strings.Contains(text, secret), "a secret is in the log")
	}
}
