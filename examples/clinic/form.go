package main

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// text returns a field of the query or the form as PostgreSQL can store it: UTF-8 without control characters, without space
// around it, and cut to the given number of characters.
func text(r *http.Request, field string, longest int) string {
	clean := strings.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' {
			return -1
		}
		return c
	}, strings.ToValidUTF8(r.FormValue(field), ""))
	if runes := []rune(clean); len(runes) > longest {
		clean = string(runes[:longest])
	}
	return strings.TrimSpace(clean)
}

// id returns the number in the request's path, or errNotFound if it is not a number.
func id(r *http.Request) (int64, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || n <= 0 {
		return 0, errNotFound
	}
	return n, nil
}

// contains returns a pattern for ILIKE that finds the words. It escapes the wildcards of LIKE
// (https://www.postgresql.org/docs/current/functions-matching.html#FUNCTIONS-LIKE).
func contains(words string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(words) + "%"
}

const (
	dayLayout    = "2006-01-02"       // of <input type="date">
	minuteLayout = "2006-01-02T15:04" // of <input type="datetime-local">
)

// day parses a date of birth. It returns false if it is not a date, before 1890 or in the future.
func day(s string, now time.Time) (time.Time, bool) {
	t, err := time.Parse(dayLayout, s)
	return t, err == nil && t.Year() >= 1890 && !t.After(now)
}

// pager is one page of a longer list.
type pager struct {
	Page, Pages int
	Total       int64
	path        string
	query       url.Values
}

// newPager returns the page that the request asks for, or the nearest one that exists.
func newPager(r *http.Request, total int64, size int) pager {
	p := pager{Total: total, Pages: max(1, int((total+int64(size)-1)/int64(size))), path: r.URL.Path, query: r.URL.Query()}
	p.Page, _ = strconv.Atoi(r.URL.Query().Get("page"))
	p.Page = min(max(p.Page, 1), p.Pages)
	return p
}

func (p pager) offset(size int) int { return (p.Page - 1) * size }

// Previous links to the page before, and is empty on the first.
func (p pager) Previous() string { return p.link(p.Page - 1) }

// Next links to the page after, and is empty on the last.
func (p pager) Next() string { return p.link(p.Page + 1) }

func (p pager) link(page int) string {
	if page < 1 || page > p.Pages {
		return ""
	}
	p.query.Set("page", strconv.Itoa(page))
	return p.path + "?" + p.query.Encode()
}
