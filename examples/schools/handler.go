package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy/examples/internal/web"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// handler finds out which school a request is for, and serves it. No query below names a school.
func handler(db *gorm.DB) http.Handler {
	students := students{db}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /students", students.list)
	mux.HandleFunc("GET /students/{id}", students.show)
	mux.HandleFunc("POST /students", students.add)

	school := tenanthttp.Mapped(
		tenanthttp.Subdomain("localhost"),
		tenanthttp.NewCache(schools{db}, tenanthttp.CacheConfig{}),
	)
	return tenanthttp.Middleware(school,
		tenanthttp.TrustResolver(), // these pages are public: whoever knows a school's name may see its students
		tenanthttp.RevealTenants(), // and may know which schools there are
	)(mux)
}

// schools looks up the id of a school by its subdomain. It is asked before the request has a tenant.
type schools struct{ db *gorm.DB }

func (s schools) Tenant(ctx context.Context, slug string) (string, error) {
	var school School
	err := s.db.WithContext(ctx).Where("slug = ?", slug).Take(&school).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return "", tenanthttp.ErrUnknownTenant
	}
	return strconv.FormatInt(school.ID, 10), err
}

// students are those of the school in the request's context.
type students struct{ db *gorm.DB }

func (s students) list(w http.ResponseWriter, r *http.Request) {
	found := []Student{}
	if err := s.db.WithContext(r.Context()).Order("id").Limit(100).Find(&found).Error; err != nil {
		web.Failed(w, r, err)
		return
	}
	web.Write(w, http.StatusOK, found)
}

func (s students) show(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	var student Student
	if err == nil {
		err = s.db.WithContext(r.Context()).Take(&student, id).Error
	}
	switch {
	case errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange), errors.Is(err, gorm.ErrRecordNotFound):
		web.Problem(w, http.StatusNotFound, "this school has no such student")
	case err != nil:
		web.Failed(w, r, err)
	default:
		web.Write(w, http.StatusOK, student)
	}
}

func (s students) add(w http.ResponseWriter, r *http.Request) {
	var in struct{ Name string }
	if !web.Read(w, r, &in) {
		return
	}
	if !web.IsText(in.Name, 100) {
		web.Problem(w, http.StatusBadRequest, "name must be a text of 1 to 100 characters")
		return
	}
	student := Student{Name: in.Name} // and tenant_id is filled in
	if err := s.db.WithContext(r.Context()).Create(&student).Error; err != nil {
		web.Failed(w, r, err)
		return
	}
	web.Write(w, http.StatusCreated, student)
}
