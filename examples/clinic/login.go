package main

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// loginForm is what the sign-in page shows.
type loginForm struct {
	Clinics  []Clinic
	Demo     []demoUser
	Clinic   string // the id as text; empty for the head office
	Email    string
	Password string // of a demo account only, never what a user typed
	Next     string
	Wrong    bool
}

// DemoOf returns the demonstration's users of one clinic.
func (f loginForm) DemoOf(clinic int64) (users []demoUser) {
	for _, u := range f.Demo {
		if u.Clinic == clinic {
			users = append(users, u)
		}
	}
	return users
}

func (a *app) loginPage(w http.ResponseWriter, r *http.Request) error {
	if visitorOf(r.Context()).User.ID != 0 {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return nil
	}
	form := loginForm{Next: r.FormValue("next"), Clinic: "1"}
	clinic, _ := strconv.ParseInt(r.FormValue("clinic"), 10, 64)
	number, _ := strconv.Atoi(r.FormValue("user"))
	if u, ok := demoUserOf(clinic, number); ok {
		form.Clinic, form.Email, form.Password = "", u.Email, u.Password()
		if u.Clinic != 0 {
			form.Clinic = strconv.FormatInt(u.Clinic, 10)
		}
	}
	return a.showLogin(w, r, http.StatusOK, form)
}

func (a *app) showLogin(w http.ResponseWriter, r *http.Request, status int, form loginForm) error {
	form.Demo = demoUsers
	shared := a.db.WithContext(tenancy.WithoutTenant(r.Context()))
	if err := shared.Order("id").Find(&form.Clinics).Error; err != nil {
		return err
	}
	return a.render(w, r, status, "login", view{Title: "Sign in", Body: form})
}

// login signs a user in to a clinic, or an administrator to no clinic. A wrong password, an unknown address and a missing
// membership get the same response, after the same time. The session's token changes, so that a token that was planted in the
// browser before is useless.
func (a *app) login(w http.ResponseWriter, r *http.Request) error {
	form := loginForm{
		Clinic: text(r, "clinic", 20), Email: strings.ToLower(text(r, "email", 200)), Next: r.PostFormValue("next"), Wrong: true,
	}
	user, err := a.authenticate(r, form.Email, r.PostFormValue("password"))
	if errors.Is(err, errWrongPassword) {
		return a.showLogin(w, r, http.StatusUnauthorized, form)
	}
	if err != nil {
		return err
	}
	allowed, err := a.mayWorkFor(r, user, form.Clinic)
	if err != nil {
		return err
	}
	if !allowed {
		return a.showLogin(w, r, http.StatusUnauthorized, form)
	}

	ctx := r.Context()
	if err := a.sessions.Clear(ctx); err != nil {
		return err
	}
	if err := a.sessions.RenewToken(ctx); err != nil {
		return err
	}
	a.sessions.Put(ctx, userKey, user.ID)
	if form.Clinic != "" {
		a.sessions.Put(ctx, tenantKey, form.Clinic)
	}
	http.Redirect(w, r, localPath(form.Next), http.StatusSeeOther)
	return nil
}

var errWrongPassword = errors.New("wrong password")

func (a *app) authenticate(r *http.Request, email, password string) (User, error) {
	var user User
	shared := a.db.WithContext(tenancy.WithoutTenant(r.Context()))
	err := shared.Where("email = ?", email).First(&user).Error
	if err != nil && !errors.Is(err, gorm.ErrRecordNotFound) {
		return user, err
	}
	is, err := a.passwords.Matches(r.Context(), user.PasswordHash, password)
	if err == nil && !is {
		err = errWrongPassword
	}
	return user, err
}

// mayWorkFor reports whether the user is a member of the clinic, or an administrator if clinic is empty.
func (a *app) mayWorkFor(r *http.Request, user User, clinic string) (bool, error) {
	if clinic == "" {
		return user.Admin, nil
	}
	id, err := strconv.ParseInt(clinic, 10, 64)
	if err != nil || strconv.FormatInt(id, 10) != clinic {
		return false, nil
	}
	var found int64
	shared := a.db.WithContext(tenancy.WithoutTenant(r.Context()))
	err = shared.Model(&Membership{}).Where("user_id = ? AND tenant_id = ?", user.ID, id).Count(&found).Error
	return found == 1, err
}

// logout ends the session, here and in the store.
func (a *app) logout(w http.ResponseWriter, r *http.Request) error {
	if err := a.sessions.Destroy(r.Context()); err != nil {
		return err
	}
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

// switchClinic makes another clinic the session's, with a new token.
func (a *app) switchClinic(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	clinic := visitorOf(ctx).Clinic(r.PostFormValue("clinic"))
	if clinic == nil {
		return errNoMember
	}
	if err := renew(ctx, a.sessions); err != nil {
		return err
	}
	a.sessions.Put(ctx, tenantKey, strconv.FormatInt(clinic.ID, 10))
	a.say(r, "You are now working for "+clinic.Name+".")
	http.Redirect(w, r, "/patients", http.StatusSeeOther)
	return nil
}

// home redirects to the patients of the clinic, or of all clinics.
func (a *app) home(w http.ResponseWriter, r *http.Request) error {
	to := "/patients"
	if a.tenant(r) == "" {
		to = "/admin"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}
