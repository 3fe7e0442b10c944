package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/alexedwards/scs/v2"
	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

const (
	sessionLifetime = 8 * time.Hour    // a working day, from signing in
	sessionIdle     = 30 * time.Minute // between two requests

	userKey   = "user"   // int64
	tenantKey = "tenant" // the clinic's id as text; absent for the head office
	flashKey  = "flash"  // a message for the next page
)

// newSessions uses scs without its own store in memory, whose goroutine never ends.
func newSessions(s scs.Store, secure bool) *scs.SessionManager {
	name := "session"
	if secure {
		name = "__Host-session" // browsers insist on Secure, Path=/ and no Domain
	}
	return &scs.SessionManager{
		Store:       s,
		Codec:       scs.GobCodec{},
		Lifetime:    sessionLifetime,
		IdleTimeout: sessionIdle,
		Cookie:      scs.SessionCookie{Name: name, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: secure},
		ErrorFunc: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "The session is damaged.", http.StatusInternalServerError)
		},
	}
}

// renew gives the session a new token and keeps its deadline, which scs alone would extend.
func renew(ctx context.Context, sessions *scs.SessionManager) error {
	end := sessions.Deadline(ctx)
	if err := sessions.RenewToken(ctx); err != nil {
		return err
	}
	sessions.SetDeadline(ctx, end)
	return nil
}

// session gives a request its session and its visitor. Both are looked up for each request, so that a removed user,
// or one that is no longer an administrator, loses access at once.
func (a *app) session(next http.Handler) http.Handler {
	return a.sessions.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		v, err := a.visitor(r.Context())
		if err != nil {
			a.fail(w, r, err)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), visitorKey{}, v))
		if !a.checkToken(r) {
			a.refuse(w, r, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// visitor is the user who sent the request.
type visitor struct {
	User    User     // the zero value if no user has signed in
	Clinics []Clinic // that the user is a member of
}

// Clinic returns the clinic with this id, if the visitor is a member of it, and nil otherwise.
func (v visitor) Clinic(tenant string) *Clinic {
	i := slices.IndexFunc(v.Clinics, func(c Clinic) bool { return strconv.FormatInt(c.ID, 10) == tenant })
	if i < 0 {
		return nil
	}
	return &v.Clinics[i]
}

type visitorKey struct{}

func visitorOf(ctx context.Context) visitor {
	v, _ := ctx.Value(visitorKey{}).(visitor)
	return v
}

// visitor reads the session's user and the user's clinics. The request has no tenant yet: the lookup role reads them.
func (a *app) visitor(ctx context.Context) (v visitor, err error) {
	id := a.sessions.GetInt64(ctx, userKey)
	if id == 0 {
		return v, nil
	}
	shared := a.db.WithContext(tenancy.WithoutTenant(ctx))
	err = shared.First(&v.User, id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return visitor{}, a.sessions.Destroy(ctx)
	}
	if err == nil {
		err = shared.Where("id IN (?)", shared.Model(&Membership{}).Select("tenant_id").Where("user_id = ?", id)).
			Order("id").Find(&v.Clinics).Error
	}
	return v, err
}

// requireUser redirects a visitor who has not signed in to the sign-in page, and back afterwards.
func (a *app) requireUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if visitorOf(r.Context()).User.ID != 0 {
			next.ServeHTTP(w, r)
			return
		}
		to := "/login"
		if r.Method == http.MethodGet && r.URL.Path != "/" {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
}

func (a *app) requireAdmin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !visitorOf(r.Context()).User.Admin {
			a.refuse(w, r, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// tenant returns the clinic of the session. It uses nothing that a browser can change.
func (a *app) tenant(r *http.Request) string { return a.sessions.GetString(r.Context(), tenantKey) }

// isMember is called for each request, so that a membership ends with its row.
func isMember(r *http.Request, tenant string) (bool, error) {
	return visitorOf(r.Context()).Clinic(tenant) != nil, nil
}

// refuseTenant writes the error page for tenanthttp's middleware.
func (a *app) refuseTenant(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, tenanthttp.ErrNoTenant), errors.Is(err, tenanthttp.ErrForbidden):
		a.refuse(w, r, http.StatusForbidden)
	default:
		a.fail(w, r, err)
	}
}

// say leaves a message for the next page.
func (a *app) say(r *http.Request, message string) { a.sessions.Put(r.Context(), flashKey, message) }
