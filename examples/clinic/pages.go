package main

import (
	"bytes"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed templates static
var files embed.FS

// pages are the templates by name, each within the layout.
type pages map[string]*template.Template

func parsePages() (pages, error) {
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	all := pages{}
	for _, name := range names {
		page := template.New("layout.html").Funcs(functions)
		if page, err = page.ParseFS(files, "templates/layout.html", "templates/parts.html", name); err != nil {
			return nil, err
		}
		all[strings.TrimSuffix(path.Base(name), ".html")] = page
	}
	return all, nil
}

var functions = template.FuncMap{
	"date":    func(t time.Time) string { return t.Format("2 January 2006") },
	"weekday": func(t time.Time) string { return t.Local().Format("Monday, 2 January") },
	"clock":   func(t time.Time) string { return t.Local().Format("15:04") },
	"moment":  func(t time.Time) string { return t.Local().Format("2 Jan, 15:04:05") },
	"machine": func(t time.Time) string { return t.Format(time.RFC3339) },
	"age":     func(born time.Time) int { return age(born, time.Now()) },
	"millis":  func(micros int64) string { return time.Duration(micros * int64(time.Microsecond)).String() },
	"initial": func(name string) string {
		for _, c := range strings.TrimPrefix(name, "Dr ") {
			return string(c)
		}
		return ""
	},
}

// age returns a person's age in years.
func age(born, now time.Time) int {
	years := now.Year() - born.Year()
	if now.Month() < born.Month() || now.Month() == born.Month() && now.Day() < born.Day() {
		years--
	}
	return years
}

// view is the data of a template. render fills in what all pages have in common.
type view struct {
	Title   string
	Nav     string // the entry of the navigation that is current
	Body    any
	Visitor visitor
	Clinic  *Clinic // that the session works for; nil for the head office
	Flash   string
	Token   func() string // for forms
}

// render writes a page. It writes nothing until the page is complete, so that an error can still get an error page.
func (a *app) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) error {
	v.Visitor = visitorOf(r.Context())
	v.Clinic = v.Visitor.Clinic(a.tenant(r))
	v.Flash = a.sessions.PopString(r.Context(), flashKey)
	v.Token = func() string { return a.token(r) }
	var page bytes.Buffer
	if err := a.pages[name].Execute(&page, v); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // so that the back button shows nothing after signing out
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // fails only if the visitor has gone
	return nil
}

// refusals are the texts of the error pages. A record of another clinic is "not found", like one that does not exist.
var refusals = map[int]struct{ Title, Text string }{
	http.StatusForbidden: {"Access denied",
		"You do not have access to this page. If you work for several clinics, switch to another one."},
	http.StatusNotFound: {"Not found", "This clinic has no such page or record."},
	http.StatusInternalServerError: {"Something went wrong",
		"The error is on our side and has been logged. Please try again in a minute."},
}

// refuse answers with an error page.
func (a *app) refuse(w http.ResponseWriter, r *http.Request, status int) {
	refusal := refusals[status]
	if err := a.render(w, r, status, "refusal", view{Title: refusal.Title, Body: refusal.Text}); err != nil {
		http.Error(w, refusal.Title, status)
	}
}

// staticFile serves the style sheet and the icon, which may be cached for an hour. It serves no other file, no listing and no
// template.
func staticFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if name != "style.css" && name != "icon.svg" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	http.ServeFileFS(w, r, files, "static/"+name)
}
