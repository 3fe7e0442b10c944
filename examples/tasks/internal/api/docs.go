package api

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsPage string

// docsStyle is all that a browser may load for the page: what it shows is made here, from the OpenAPI document, and nothing comes from elsewhere.
const docsStyle = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:0 auto;padding:1rem}` +
	`h2{border-top:1px solid;margin-top:2rem;padding-top:1rem;text-transform:capitalize}code{font-size:1rem;overflow-wrap:anywhere}td,th{text-align:left;padding:0 1rem 0 0;vertical-align:top}`

var docsTemplate = template.Must(template.New("docs").Parse(docsPage))

// documented is an operation as the page shows it.
type documented struct {
	Method, Tag string
	*huma.Operation
	Values   []documentedValue
	Statuses []string
}

// documentedValue is a parameter, or a field of the body.
type documentedValue struct {
	Name, In, Type, Doc string
	Required            bool
}

// docs answers with a page about all operations.
func (a *API) docs(w http.ResponseWriter, _ *http.Request) {
	sum := sha256.Sum256([]byte(docsStyle))
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; "+
		"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	spec := a.huma.OpenAPI()
	_ = docsTemplate.Execute(w, map[string]any{ // an error is the connection's: the header has been sent
		"Info": spec.Info, "Style": template.CSS(docsStyle), "Tags": documentedOf(spec),
	})
}

// documentedOf returns all operations, those of a tag together, in the order of their paths.
func documentedOf(spec *huma.OpenAPI) [][]documented {
	var all []documented
	for _, item := range spec.Paths {
		for method, op := range map[string]*huma.Operation{
			http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
		} {
			if op != nil {
				all = append(all, document(spec, method, op))
			}
		}
	}
	slices.SortFunc(all, func(a, b documented) int {
		return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method))
	})
	var tags [][]documented
	for _, d := range all {
		if len(tags) == 0 || tags[len(tags)-1][0].Tag != d.Tag {
			tags = append(tags, nil)
		}
		tags[len(tags)-1] = append(tags[len(tags)-1], d)
	}
	return tags
}

func document(spec *huma.OpenAPI, method string, op *huma.Operation) documented {
	d := documented{Method: method, Operation: op}
	if len(op.Tags) > 0 {
		d.Tag = op.Tags[0]
	}
	for _, p := range op.Parameters {
		d.Values = append(d.Values, documentedValue{p.Name, p.In, typeOf(spec, p.Schema), p.Description, p.Required})
	}
	if op.RequestBody != nil {
		for kind, media := range op.RequestBody.Content {
			body := resolve(spec, media.Schema)
			for name, field := range body.Properties {
				d.Values = append(d.Values, documentedValue{name, "body", typeOf(spec, field), field.Description, slices.Contains(body.Required, name)})
			}
			if len(body.Properties) == 0 {
				d.Values = append(d.Values, documentedValue{Name: kind, In: "body", Type: typeOf(spec, body), Required: op.RequestBody.Required})
			}
		}
	}
	slices.SortStableFunc(d.Values, func(a, b documentedValue) int { return cmp.Or(-cmp.Compare(a.In, b.In), cmp.Compare(a.Name, b.Name)) })
	for status := range op.Responses {
		if _, err := strconv.Atoi(status); err == nil {
			d.Statuses = append(d.Statuses, status)
		}
	}
	slices.Sort(d.Statuses)
	return d
}

// resolve follows a reference to a schema.
func resolve(spec *huma.OpenAPI, s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		s = spec.Components.Schemas.SchemaFromRef(s.Ref)
	}
	if s == nil {
		s = &huma.Schema{}
	}
	return s
}

func typeOf(spec *huma.OpenAPI, s *huma.Schema) string {
	s = resolve(spec, s)
	switch {
	case s.Type == huma.TypeArray:
		return "array of " + typeOf(spec, s.Items)
	case s.Format != "":
		return s.Type + " (" + s.Format + ")"
	}
	return s.Type
}
