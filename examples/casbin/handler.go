package main

import (
	"net/http"

	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// rule allows a user an action on an object.
type rule struct {
	User   string `json:"user"`
	Object string `json:"object"`
	Action string `json:"action"`
}

func (r rule) isValid() bool {
	return web.IsText(r.User, 100) && web.IsText(r.Object, 100) && web.IsText(r.Action, 100)
}

var errRule = web.Refuse(http.StatusBadRequest, "user, object and action must be texts of 1 to 100 characters")

// handler serves the permissions of the company that the subdomain names. Every client may change them here; examples/api
// has a login.
func handler(e *enforcers, tenants companies) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /allowed", web.Handler(e.allowed))
	mux.Handle("GET /rules", web.Handler(e.list))
	mux.Handle("POST /rules", web.Handler(e.add))
	mux.Handle("PUT /rules", web.Handler(e.replace))
	company := tenanthttp.Lookup(tenanthttp.Subdomain("localhost"), tenants)
	return tenanthttp.Middleware(company, tenanthttp.DangerouslyTrustResolver())(mux)
}

func (e *enforcers) allowed(w http.ResponseWriter, r *http.Request) error {
	enforcer, err := e.of(r.Context())
	if err != nil {
		return err
	}
	q := r.URL.Query()
	allowed, err := enforcer.Enforce(q.Get("user"), q.Get("object"), q.Get("action"))
	if err != nil {
		return err
	}
	return web.Write(w, http.StatusOK, map[string]bool{"allowed": allowed})
}

func (e *enforcers) list(w http.ResponseWriter, r *http.Request) error {
	enforcer, err := e.of(r.Context())
	if err != nil {
		return err
	}
	policy, err := enforcer.GetPolicy()
	if err != nil {
		return err
	}
	rules := []rule{}
	for _, p := range policy {
		rules = append(rules, rule{p[0], p[1], p[2]})
	}
	return web.Write(w, http.StatusOK, rules)
}

func (e *enforcers) add(w http.ResponseWriter, r *http.Request) error {
	var in rule
	if err := web.Read(w, r, &in); err != nil {
		return err
	}
	if !in.isValid() {
		return errRule
	}
	enforcer, err := e.of(r.Context())
	if err != nil {
		return err
	}
	if _, err := enforcer.AddPolicy(in.User, in.Object, in.Action); err != nil {
		return err
	}
	return web.Write(w, http.StatusCreated, in)
}

// replace replaces all rules, first in memory and then in the table.
func (e *enforcers) replace(w http.ResponseWriter, r *http.Request) error {
	var in []rule
	if err := web.Read(w, r, &in); err != nil {
		return err
	}
	var policy [][]string
	for _, rule := range in {
		if !rule.isValid() {
			return errRule
		}
		policy = append(policy, []string{rule.User, rule.Object, rule.Action})
	}
	fresh, err := newEnforcer(r.Context(), e.db)
	if err != nil {
		return err
	}
	fresh.EnableAutoSave(false)
	fresh.ClearPolicy()
	if _, err := fresh.AddPoliciesEx(policy); err != nil {
		return err
	}
	if err := fresh.SavePolicy(); err != nil {
		return err
	}
	enforcer, err := e.of(r.Context())
	if err != nil {
		return err
	}
	if err := enforcer.LoadPolicy(); err != nil {
		return err
	}
	return web.Write(w, http.StatusOK, in)
}
