package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// The handler of this file uses a client that is kept for each clinic, as programs do that look something up for a
// tenant once: its settings, its time zone, its licence.
//
// Do not keep a *gorm.DB with a context in it, as (*gorm.DB).WithContext returns: every later request would have the deadline
// and the tenant of the first one. So a clinicClient keeps the shared *gorm.DB and facts, and takes the context with each
// call. The wrong client cannot show more: the context still names the tenant, and if both disagree, nothing is sent.

// clinicClient is what is kept for one clinic.
type clinicClient struct {
	db     *gorm.DB // shared, without a tenant
	tenant string
	clinic Clinic
}

// errOtherClinic is returned when a clinic's client is used under the context of another.
var errOtherClinic = errors.New("the client is another clinic's")

func (c *clinicClient) with(ctx context.Context) (*gorm.DB, error) {
	if tenant, _ := tenancy.TenantFromContext(ctx); tenant != c.tenant {
		return nil, errOtherClinic
	}
	return c.db.WithContext(ctx), nil
}

// dayPlan is what a clinic has to do on one day.
type dayPlan struct {
	Clinic       Clinic
	Day          time.Time
	Patients     int64
	Appointments []Appointment
}

// plan returns the appointments of the day that begins at start.
func (c *clinicClient) plan(ctx context.Context, start time.Time) (dayPlan, error) {
	plan := dayPlan{Clinic: c.clinic, Day: start}
	db, err := c.with(ctx)
	if err != nil {
		return plan, err
	}
	if err := db.Model(&Patient{}).Count(&plan.Patients).Error; err != nil {
		return plan, err
	}
	return plan, db.Joins("Patient").Where("appointments.at >= ? AND appointments.at < ?", start, start.AddDate(0, 0, 1)).
		Order("appointments.at, appointments.id").Find(&plan.Appointments).Error
}

// maxClients bounds the memory: a program with a hundred thousand tenants must not keep a client for each.
const maxClients = 100

// clinicClients keeps a client for each clinic that was asked for.
type clinicClients struct {
	db   *gorm.DB
	mu   sync.Mutex
	kept map[string]*clinicClient
}

func newClinicClients(db *gorm.DB) *clinicClients {
	return &clinicClients{db: db, kept: map[string]*clinicClient{}}
}

// of returns the client of the context's tenant. The first call reads what the client keeps.
func (c *clinicClients) of(ctx context.Context) (*clinicClient, error) {
	tenant, _ := tenancy.TenantFromContext(ctx)
	c.mu.Lock()
	client := c.kept[tenant]
	c.mu.Unlock()
	if client != nil {
		return client, nil
	}
	client = &clinicClient{db: c.db, tenant: tenant}
	if err := c.db.WithContext(ctx).First(&client.clinic, "id = ?", tenant).Error; err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) >= maxClients {
		clear(c.kept)
	}
	c.kept[tenant] = client
	return client, nil
}

func (a *app) today(w http.ResponseWriter, r *http.Request) error {
	client, err := a.clients.of(r.Context())
	if err != nil {
		return err
	}
	plan, err := client.plan(r.Context(), startOfDay(time.Now()))
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "today", view{Title: "Today", Nav: "today", Body: plan})
}
