package main

import (
	"net/http"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"github.com/gormtenancy/tenancy"
	"github.com/gormtenancy/tenancy/examples/internal/web"
)

const (
	defaultLimit = 20
	maxLimit     = 100
)

// page is the part of a list that a client asks for. The client's values become arguments of a statement, or select one of
// the texts below. They never become SQL.
type page struct {
	limit   int
	order   string // ends in id
	search  string
	after   *position
	binding string // the list that a cursor is valid for
}

// readPage reads ?limit=20&sort=name&q=text&cursor=next.
func (a *api) readPage(r *http.Request) (p page, err error) {
	query := r.URL.Query()
	p.limit, p.search = defaultLimit, query.Get("q")
	if text := query.Get("limit"); text != "" {
		p.limit, err = strconv.Atoi(text)
		if err != nil || p.limit < 1 || p.limit > maxLimit {
			return p, web.Refuse(http.StatusBadRequest, "limit must be a number from 1 to "+strconv.Itoa(maxLimit))
		}
	}
	switch query.Get("sort") {
	case "", "id":
		p.order = "id"
	case "name":
		p.order = "name, id"
	default:
		return p, web.Refuse(http.StatusBadRequest, "sort must be id or name")
	}
	if p.search != "" && !web.IsText(p.search, 100) {
		return p, web.Refuse(http.StatusBadRequest, "q must be a text of up to 100 characters")
	}
	tenant, _ := tenancy.TenantFromContext(r.Context())
	p.binding = strings.Join([]string{tenant, p.order, p.search}, "\x00")
	if cursor := query.Get("cursor"); cursor != "" {
		after, ok := a.cursors.open(p.binding, cursor)
		if !ok {
			return p, web.Refuse(http.StatusBadRequest, "cursor must be the next of a list with the same sort and q")
		}
		p.after = &after
	}
	return p, nil
}

// scope limits a query to the page and one more row, which shows that there is a next page.
func (p page) scope(db *gorm.DB) *gorm.DB {
	if p.search != "" {
		db = db.Where("name ILIKE ?", "%"+wildcards.Replace(p.search)+"%")
	}
	if p.after != nil {
		if p.order == "id" {
			db = db.Where("id > ?", p.after.ID)
		} else {
			db = db.Where("(name, id) > (?, ?)", p.after.Name, p.after.ID)
		}
	}
	return db.Order(p.order).Limit(p.limit + 1)
}

// wildcards escapes the wildcards of LIKE.
var wildcards = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
