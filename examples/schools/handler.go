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

// handler finds the school of a request and serves it. No query below names a school.
func handler(db *gorm.DB) http.Handler {
	students := students{db}
	mux := http.NewServeMux()
	mux.Handle("GET /students", web.Handler(students.list))
	mux.Handle("GET /students/{id}", web.Handler(students.show))
	mux.Handle("POST /students", web.Handler(students.add))

	school := tenanthttp.Lookup(
		tenanthttp.Subdomain("localhost"),
		tenanthttp.NewCache(schools{db}, tenanthttp.CacheConfig{}),
	)
	return tenanthttp.Middleware(school,
		tenanthttp.DangerouslyTrustResolver(), // these pages are public: every client may see the students
		tenanthttp.RevealTenants(),            // and may know which schools exist
	)(mux)
}

// schools looks up the id of a school by its subdomain, before the request has a tenant.
type schools struct{ db *gorm.DB }

func (s schools) Tenant(ctx context.Context, slug string) (string, error) {
	var school School
	err := s.db.WithContext(ctx).Where("slug = ?", slug).Take(&school).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return "", tenanthttp.ErrUnknownTenant
	}
	return strconv.FormatInt(school.ID, 10), err
}

// students serves the students of the school in the request's context.
type students struct{ db *gorm.DB }

func (s students) list(w http.ResponseWriter, r *http.Request) error {
	found := []Student{}
	if err := s.db.WithContext(r.Context()).Order("id").Limit(100).Find(&found).Error; err != nil {
		return err
	}
	return web.Write(w, http.StatusOK, found)
}

func (s students) show(w http.ResponseWriter, r *http.Request) error {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return gorm.ErrRecordNotFound
	}
	var student Student
	if err := s.db.WithContext(r.Context()).Take(&student, id).Error; err != nil {
		return err
	}
	return web.Write(w, http.StatusOK, student)
}

func (s students) add(w http.ResponseWriter, r *http.Request) error {
	var in struct{ Name string }
	if err := web.Read(w, r, &in); err != nil {
		return err
	}
	if !web.IsText(in.Name, 100) {
		return web.Refuse(http.StatusBadRequest, "name must be a text of 1 to 100 characters")
	}
	student := Student{Name: in.Name} // the plugin fills in tenant_id
	if err := s.db.WithContext(r.Context()).Create(&student).Error; err != nil {
		return err
	}
	return web.Write(w, http.StatusCreated, student)
}
