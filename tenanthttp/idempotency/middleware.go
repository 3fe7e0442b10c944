package idempotency

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// Config says where records are, and how large and how old they get. DB and Sender are required.
type Config struct {
	// DB has the plugin, and the table of Record.
	DB *gorm.DB
	// Sender says who sent a request: a user's id, or the id of an API key, not a token, which can change between attempts. One sender
	// never gets an answer that was made for another of the same tenant. AnySender lets all of a tenant share keys and answers.
	Sender func(*http.Request) string
	// Optional lets requests without a key pass, which then may have effects twice. Without it they are answered with 400.
	Optional bool
	// TTL is how long a key is remembered. Zero means a day.
	TTL time.Duration
	// MaxBody and MaxResponse are the largest request body and response body, in bytes, because both are in memory. Larger requests
	// are answered with 413. A larger response is an error of the server: its transaction is rolled back. Zero means 1 MiB.
	MaxBody, MaxResponse int
}

// AnySender is a Config.Sender for which all senders of a tenant are one.
func AnySender(*http.Request) string { return "" }

var (
	errInUse    = errors.New("idempotency: the key is in use")
	errOther    = errors.New("idempotency: the key belongs to another request")
	errRollback = errors.New("idempotency: the handler has answered with an error")
	errTooLarge = errors.New("idempotency: the response is larger than Config.MaxResponse")
)

// Middleware runs the handler of a POST or PATCH once for each Idempotency-Key of a tenant and sender, in a transaction of the request's
// tenant, and answers with the stored answer when the request comes again (with the header "Idempotent-Replayed: true"). Requests
// of other methods pass. It must be inside of tenanthttp.Middleware. Errors are application/problem+json:
//
//   - 400 for a request without a key, with two, or with one that is not a string of 1 to 255 printable characters;
//   - 409 for a key whose first request is still being answered, by this server or another;
//   - 413 for a body that is too large;
//   - 422 for a key that was used with another method, URL, Content-Type or body.
//
// An answer of status 400 or more is not stored: the transaction is rolled back, and the request may be sent again with the same key. So are a
// panic, a lost connection and a cancelled request. Answers are kept in memory until the transaction is committed: they cannot be
// flushed or hijacked. It panics without DB or Sender.
func Middleware(cfg Config) func(http.Handler) http.Handler {
	switch {
	case cfg.DB == nil:
		panic("idempotency: Config.DB is nil")
	case cfg.Sender == nil:
		panic("idempotency: Config.Sender is nil: say who sent a request, or pass AnySender")
	}
	if cfg.TTL <= 0 {
		cfg.TTL = 24 * time.Hour
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.MaxResponse <= 0 {
		cfg.MaxResponse = 1 << 20
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost && r.Method != http.MethodPatch {
				next.ServeHTTP(w, r)
				return
			}
			cfg.serve(w, r, next)
		})
	}
}

func (cfg Config) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	tenant, ok := tenancy.TenantFromContext(r.Context())
	if !ok {
		tenanthttp.Problem(w, r, tenanthttp.ErrNoTenant)
		return
	}
	key, ok := keyOf(r)
	if !ok || key == "" && !cfg.Optional {
		problem(w, http.StatusBadRequest, "The request needs one Idempotency-Key of 1 to 255 printable characters.")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(cfg.MaxBody)))
	if err != nil {
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			problem(w, http.StatusRequestEntityTooLarge, "The body is too large.")
			return
		}
		problem(w, http.StatusBadRequest, "The body could not be read.")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))

	a := &attempt{cfg: cfg, tenant: tenant, response: newResponse(w.Header(), cfg.MaxResponse)}
	if key != "" {
		a.record = &Record{Key: storedKey(cfg.Sender(r), key), Fingerprint: fingerprint(r, body)}
	}
	a.answer(w, r, a.run(r, next))
}

// attempt is a request that is being answered.
type attempt struct {
	cfg      Config
	tenant   string
	record   *Record // nil for a request without a key
	stored   *Record // the answer to an earlier attempt
	response *response
}

// run calls the handler and stores its answer, in one transaction, unless there is a stored answer.
func (a *attempt) run(r *http.Request, next http.Handler) error {
	return a.cfg.DB.WithContext(r.Context()).Transaction(func(tx *gorm.DB) error {
		if a.record != nil {
			if err := a.find(tx); err != nil || a.stored != nil {
				return err
			}
		}
		next.ServeHTTP(a.response, r.WithContext(context.WithValue(r.Context(), txKey{}, tx)))
		a.response.WriteHeader(http.StatusOK) // if the handler has written nothing
		switch {
		case a.response.tooLarge:
			return errTooLarge
		case a.response.status >= http.StatusBadRequest:
			return errRollback
		case a.record == nil:
			return nil
		}
		a.response.record(a.record)
		a.record.ExpiresAt = time.Now().Add(a.cfg.TTL)
		err := tx.Create(a.record).Error
		if isDuplicate(err) { // by a server that does not lock, or in a snapshot from before the other's commit
			return errInUse
		}
		return err
	})
}

// find looks for the answer to an earlier attempt. The lock tells an attempt that is under way from none: its row cannot be seen yet. It
// ends with the transaction, also if the server dies. The query is a statement of its own, so that it sees what was committed before
// the lock was free.
func (a *attempt) find(tx *gorm.DB) error {
	var locked bool
	err := tx.Raw("SELECT pg_catalog.pg_try_advisory_xact_lock(?)", lockID(a.tenant, a.record.Key)).Scan(&locked).Error
	if err != nil {
		return err
	}
	if !locked {
		return errInUse
	}
	var found Record
	if err := tx.Where("key = ?", a.record.Key).Limit(1).Find(&found).Error; err != nil {
		return err
	}
	switch {
	case found.Key == "":
		return nil
	case !time.Now().Before(found.ExpiresAt):
		return tx.Where("key = ?", a.record.Key).Delete(&Record{}).Error
	case found.Fingerprint != a.record.Fingerprint:
		return errOther
	default:
		a.stored = &found
		return nil
	}
}

func isDuplicate(err error) bool {
	var state interface{ SQLState() string }
	return errors.Is(err, gorm.ErrDuplicatedKey) || errors.As(err, &state) && state.SQLState() == "23505"
}

func (a *attempt) answer(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errInUse):
		problem(w, http.StatusConflict, "A request with this Idempotency-Key is being answered.")
	case errors.Is(err, errOther):
		problem(w, http.StatusUnprocessableEntity, "This Idempotency-Key was used with another request.")
	case err != nil && !errors.Is(err, errRollback):
		tenanthttp.Problem(w, r, err)
	case a.stored != nil:
		if err := replay(w, a.stored); err != nil {
			tenanthttp.Problem(w, r, err)
		}
	default:
		a.response.send(w)
	}
}
