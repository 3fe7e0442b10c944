package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
)

// trail collects what the bypass client does in one request. It is stored before the page is sent, so that nothing
// is shown without a record. It is not stored within the statement, which still holds its connection: if all connections of
// the pool waited for another one, they would wait forever.
type trail struct {
	mu      sync.Mutex // rows that end with their context are closed on another goroutine
	entries []AuditEntry
	begun   map[string]int // the entry of a statement, by the ID of its events
}

type trailKey struct{}

func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

// record is tenancy.Config's OnBypass. The events hold no SQL and no values. A statement is on record from its begin on: one
// whose end never comes, because of a panic perhaps, counts as failed.
func record(ctx context.Context, e tenancy.BypassEvent) {
	t := trailOf(ctx)
	if t == nil {
		return // what stores the trail
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Phase == tenancy.BypassBegin {
		t.begun[e.ID] = len(t.entries)
		t.entries = append(t.entries, AuditEntry{
			At: time.Now(), UserName: visitorOf(ctx).User.Name, Reason: e.Reason, Target: e.Table, ReadOnly: e.ReadOnly, Failed: true,
		})
		return
	}
	entry := &t.entries[t.begun[e.ID]]
	entry.Kind, entry.Rows, entry.Took = e.Kind, e.Rows, e.Duration.Microseconds()
	entry.Failed, entry.SQLState = e.Failed, e.SQLState
}

// bypass runs read with a read-only client that sees all clinics, and stores what it did. If that cannot be stored, bypass
// fails.
//
// The clinics' role may not write the trail, so the bypass client does. Its context has no trail to record that in.
func (a *app) bypass(r *http.Request, reason string, read func(*gorm.DB) error) error {
	t := &trail{begun: map[string]int{}}
	ctx := context.WithValue(r.Context(), trailKey{}, t)
	failed := read(tenancy.Bypass(a.db, reason, tenancy.BypassReadOnly()).WithContext(ctx))

	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.entries {
		t.entries[i].Path = r.Pattern
	}
	if len(t.entries) > 0 {
		// The rows were read, even if the visitor has gone.
		once := &gorm.Session{Context: context.WithoutCancel(r.Context()), SkipDefaultTransaction: true}
		if err := tenancy.Bypass(a.db, "audit trail").Session(once).Create(&t.entries).Error; err != nil {
			return err
		}
	}
	return failed
}

// auditPage is a page of the audit trail.
type auditPage struct {
	Entries []AuditEntry
	Pager   pager
}

// auditTrail shows the newest entries first. The table is shared, so reading it needs no bypass and adds no entry.
func (a *app) auditTrail(w http.ResponseWriter, r *http.Request) error {
	const size = 20
	shared := a.db.WithContext(tenancy.WithoutTenant(r.Context()))
	var total int64
	if err := shared.Model(&AuditEntry{}).Count(&total).Error; err != nil {
		return err
	}
	page := auditPage{Pager: newPager(r, total, size)}
	err := shared.Order("id DESC").Offset(page.Pager.offset(size)).Limit(size).Find(&page.Entries).Error
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "audit", view{Title: "Audit trail", Nav: "audit", Body: page})
}
