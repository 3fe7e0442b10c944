package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// operation is one of the document.
type operation struct {
	*openapi3.Operation
	method, path string
}

// operations are all of the document, in one order.
func (h *hostile) operations() (all []operation) {
	paths := h.document.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		operations := paths[path].Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			all = append(all, operation{operations[method], method, path})
		}
	}
	require.Greater(h.t, len(all), 45)
	return all
}

// schema is that of the body, and nil without one.
func (o operation) schema() *openapi3.Schema {
	if o.RequestBody == nil {
		return nil
	}
	return o.RequestBody.Value.Content["application/json"].Schema.Value
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// kindOf says what a parameter of a path is an id of: "projects" for that of /v1/projects/{id}.
func (o operation) kindOf(name string) string {
	before := strings.Split(strings.Split(o.path, "/{"+name+"}")[0], "/")
	return before[len(before)-1]
}

// valid makes an attempt that is valid, with rows of a party.
func (h *hostile) valid(o operation, ids map[string]string) attempt {
	a := attempt{what: o.OperationID, method: o.method, header: http.Header{"X-Api-Key": {h.attacker.key}}}
	a.path = parameter.ReplaceAllStringFunc(o.path, func(part string) string {
		name := strings.Trim(part, "{}")
		if id, ok := ids[o.kindOf(name)]; ok {
			return id
		}
		return h.text(name, nil)
	})
	query := url.Values{}
	for _, p := range o.Parameters {
		switch p := p.Value; {
		case p.In == "query" && p.Required:
			query.Set(p.Name, h.text(p.Name, p.Schema.Value))
		case p.In == "header" && p.Name == "If-Match":
			a.header.Set("If-Match", `"1"`)
		}
	}
	if len(query) > 0 {
		a.path += "?" + query.Encode()
	}
	if schema := o.schema(); schema != nil {
		a.header.Set("Content-Type", "application/json")
		a.body = h.encode(h.sample("", schema, ids))
		if o.isPrivate() { // of a person that there is
			a.body = h.with(a.body, "email", ids["email"])
		}
	}
	return a
}

// isPrivate reports whether the operation is about a person.
func (o operation) isPrivate() bool { return strings.HasPrefix(o.path, "/v1/privacy/") }

func (h *hostile) encode(v any) []byte {
	text, err := json.Marshal(v)
	require.NoError(h.t, err)
	return text
}

// sample makes a value of a schema, with the fields that it requires.
func (h *hostile) sample(name string, s *openapi3.Schema, ids map[string]string) any {
	switch {
	case s.Type.Is("object"):
		value := object{}
		for _, field := range s.Required {
			value[field] = h.sample(field, s.Properties[field].Value, ids)
		}
		return value
	case s.Type.Is("array"):
		return []any{h.sample(name, s.Items.Value, ids)}
	case s.Type.Is("integer"), s.Type.Is("number"):
		if s.Min != nil {
			return *s.Min
		}
		return 1
	case s.Type.Is("boolean"):
		return false
	}
	if kind := strings.TrimSuffix(name, "_id") + "s"; ids[kind] != "" {
		return ids[kind]
	}
	return h.text(name, s)
}

// text makes a valid text for a field or a parameter. Names say what it is where a schema cannot.
func (h *hostile) text(name string, s *openapi3.Schema) string {
	known := map[string]string{
		"flag": "theme", "variant": "dark", "subject": "key:" + uuid.NewString(), "scope": "*", "types": "webhook.test", "scopes": "tasks:read",
		"url": h.receiver.URL, "tenant": fresh(), "email": fresh() + "@own.example", "content_type": "text/plain", "sha256": strings.Repeat("a", 64),
	}
	if text, ok := known[name]; ok {
		return text
	}
	switch {
	case s != nil && len(s.Enum) > 0:
		return s.Enum[len(s.Enum)-1].(string)
	case s != nil && s.Format == "date-time":
		return time.Now().UTC().Format(time.RFC3339)
	case s != nil && s.Format == "uuid":
		return uuid.NewString()
	}
	return fresh()
}

// own makes new rows of a party for an operation.
func (h *hostile) own(p party, o operation) map[string]string {
	ids := maps.Clone(p.ids)
	if o.isPrivate() {
		ids["email"] = fresh() + "@own.example"
		p.want(http.StatusCreated, http.MethodPost, "/v1/members", object{"email": ids["email"], "name": "x"})
	}
	if !strings.Contains(o.path, "{") && o.method != http.MethodDelete {
		return ids
	}
	project, label := p.project(fresh()), p.label(fresh())
	task := p.task(project, fresh())
	comment, attachment := p.comment(task, "c"), p.attachment(task, "a")
	hook := p.want(http.StatusCreated, http.MethodPost, "/v1/webhooks/endpoints", object{"url": h.receiver.URL, "types": []string{"webhook.test"}})
	key := p.want(http.StatusCreated, http.MethodPost, "/v1/keys", object{"name": "k", "scopes": []string{"tasks:read"}})
	for kind, row := range map[string]answer{
		"projects": project, "tasks": task, "comments": comment, "attachments": attachment, "labels": label, "endpoints": hook, "keys": key,
	} {
		ids[kind] = row.id()
		if strings.HasSuffix(o.path, "/"+kind+"/{id}/restore") {
			p.remove(kind, row.id())
		}
	}
	p.want(http.StatusNoContent, http.MethodPut, "/v1/flags/theme/override", object{"variant": "dark"})
	return ids
}

// succeeds checks that the valid attempt succeeds.
func (h *hostile) succeeds(o operation) {
	h.t.Helper()
	ids := h.own(h.attacker, o)
	a := h.valid(o, ids)
	if o.OperationID == "revokeRole" {
		address, err := url.Parse(a.path)
		require.NoError(h.t, err)
		h.attacker.want(http.StatusNoContent, http.MethodPost, "/v1/roles",
			object{"subject": address.Query().Get("subject"), "role": address.Query().Get("role")})
	}
	status, err := h.send(a)
	require.NoError(h.t, err, o.OperationID)
	require.Less(h.t, status, 300, "%s: make a valid request of it: %s %s %s", o.OperationID, a.method, a.path, a.body)
	if ids["endpoints"] != h.attacker.ids["endpoints"] { // there is a limit
		h.attacker.do(http.MethodDelete, "/v1/webhooks/endpoints/"+ids["endpoints"], nil)
	}
}

// attempts are those against one operation: all that use rows of the victim, and some of the others.
func (h *hostile) attempts(o operation, budget int) []attempt {
	all := h.foreignIDs(o)
	others := slices.Concat(h.strangers(o), h.forged(o), h.paths(o), h.queries(o), h.bodies(o), h.headers(o))
	h.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return append(all, others[:min(budget, len(others))]...)
}

// change makes an attempt of a valid one.
func (h *hostile) change(o operation, what string, change func(*attempt)) attempt {
	a := h.valid(o, h.attacker.ids)
	a.what += ": " + what
	change(&a)
	return a
}

// foreignIDs names rows of the victim, in paths, in bodies and in filters.
func (h *hostile) foreignIDs(o operation) (all []attempt) {
	names := parameter.FindAllStringSubmatch(o.path, -1)
	for _, name := range names {
		kind := o.kindOf(name[1])
		if h.victim.ids[kind] == "" {
			continue
		}
		for _, everything := range []bool{false, true} {
			ids := maps.Clone(h.attacker.ids)
			ids[kind] = h.victim.ids[kind]
			if everything {
				ids = h.victim.ids
			}
			for _, version := range []string{`"1"`, `"2"`, `*`} {
				a := h.valid(o, ids)
				a.what, a.refused, a.missing = a.what+": the victim's "+kind, true, version == `"1"`
				if a.header.Get("If-Match") != "" {
					a.header.Set("If-Match", version)
				}
				all = append(all, a)
			}
		}
	}
	if schema := o.schema(); schema != nil {
		for field, property := range schema.Properties {
			if !property.Value.Type.Is("string") {
				continue
			}
			for _, id := range append(slices.Collect(maps.Values(h.victim.ids)), h.victim.tenant) {
				all = append(all, h.change(o, "the victim's id as "+field, func(a *attempt) {
					a.body = h.with(a.body, field, id)
					a.refused = property.Value.Format == "uuid" || field == "tenant" && id == h.victim.tenant
				}))
			}
		}
	}
	if !o.has("filter") {
		return all
	}
	for kind, id := range h.victim.ids {
		for _, field := range []string{"id", "project_id", "task_id", "endpoint_id", "event_id", "delivery_id", "actor", "request_id", "author", "name", "table"} {
			all = append(all, h.change(o, "the victim's "+kind+" in a filter", func(a *attempt) {
				a.path += "?page=1&filter=" + url.QueryEscape(field+":eq:"+id)
				a.nothing = true
			}))
		}
	}
	for _, cursor := range []string{h.victim.cursor, h.victim.cursor[:len(h.victim.cursor)-2] + "AA", h.attacker.cursor + "A"} {
		all = append(all, h.change(o, "a cursor of another", func(a *attempt) { a.path += "?limit=1&cursor=" + cursor; a.refused = true }))
	}
	return all
}

// has reports whether the operation has a parameter.
func (o operation) has(name string) bool {
	return slices.ContainsFunc(o.Parameters, func(p *openapi3.ParameterRef) bool { return p.Value.Name == name })
}

// with sets a field of a body.
func (h *hostile) with(body []byte, field string, value any) []byte {
	fields := object{}
	require.NoError(h.t, json.Unmarshal(body, &fields))
	fields[field] = value
	return h.encode(fields)
}

// strangers are senders who may do nothing here, or not this.
func (h *hostile) strangers(o operation) (all []attempt) {
	if o.Security == nil {
		return nil
	}
	key := h.attacker.key
	for what, key := range map[string]string{
		"no key": "", "a revoked key": h.keys().revoked, "an expired key": h.keys().expired, "a key without this scope": h.keys().scopeless,
		"a key without a role": h.keys().roleless, "an altered key": key[:len(key)-1] + "0", "half a key": key[:len(key)/2], "two keys": key + "," + key,
		"a key with NUL": key + "\x00", "a huge key": strings.Repeat("a", 100_000), "a key of SQL": "tasks_demo_' OR 1=1--", "another prefix": "other" + key[5:],
	} {
		all = append(all, h.change(o, what, func(a *attempt) {
			a.refused = true
			a.header.Del("X-Api-Key")
			if key != "" {
				a.header["X-Api-Key"] = []string{key}
			}
		}))
	}
	return append(all, h.change(o, "two header fields", func(a *attempt) {
		a.refused = true
		a.header["X-Api-Key"] = []string{key, h.keys().revoked}
	}))
}

// forged names the victim wherever some program may look for a tenant.
func (h *hostile) forged(o operation) (all []attempt) {
	for _, field := range []string{
		"X-Tenant", "X-Tenant-Id", "Tenant", "Tenant-Id", "X-Org-Id", "X-Account-Id", "X-Tenancy-Tenant", "X-Tenancy-Token", "Authorization", "Cookie",
		"Host", "X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "Baggage", "Traceparent",
		"X-Request-Id", "Origin", "Referer", "X-User", "X-Actor",
	} {
		for _, value := range []string{h.victim.tenant, "Bearer " + h.victim.tenant, "tenant=" + h.victim.tenant, h.victim.tenant + ".tasks.example", "/v1/projects/" + h.victim.ids["projects"]} {
			all = append(all, h.change(o, "forged "+field, func(a *attempt) { a.header.Set(field, value) }))
		}
	}
	for _, name := range []string{"tenant", "tenant_id", "org", "account", "token", "app.tenant_id", "key", "api_key"} {
		all = append(all, h.change(o, "forged query", func(a *attempt) { a.path = and(a.path, name+"="+h.victim.tenant) }))
	}
	return all
}

func and(path, query string) string {
	if strings.Contains(path, "?") {
		return path + "&" + query
	}
	return path + "?" + query
}

// texts are values that break what does not expect them.
func texts() []string {
	return []string{
		"", " ", "\x00", "a\x00b", "\xff\xfe", "\u202e", "'; DROP TABLE projects; --", "' OR '1'='1", "${7*7}", "{{7*7}}", "%s%n", "../../etc/passwd", "null",
		"-1", "0", "1e400", "NaN", "99999999999999999999", "9223372036854775808", "true", "[]", "{}", strings.Repeat("a", 5000), strings.Repeat("é", 3000),
		"00000000-0000-0000-0000-000000000000", "{00000000-0000-0000-0000-000000000000}", "infinity", "0001-01-01T00:00:00Z", "99999-01-01T00:00:00Z",
		"*", "%", "_", "\r\nX-Injected: 1", "😀", "\u0000", "http://169.254.169.254/", "https://10.0.0.1", "key:" + uuid.NewString(),
	}
}

// paths have parameters that are no ids.
func (h *hostile) paths(o operation) (all []attempt) {
	if strings.Contains(o.path, "{") {
		for _, text := range texts() {
			all = append(all, h.change(o, "a path", func(a *attempt) {
				a.path = parameter.ReplaceAllLiteralString(o.path, url.PathEscape(text))
			}))
		}
	}
	for _, method := range []string{http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect, "PROPFIND", "get"} {
		all = append(all, h.change(o, "another method", func(a *attempt) { a.method = method }))
	}
	for _, path := range []string{"/", "//", "/..", "/%2e%2e/projects", ";tenant=victim", "%00", ".json"} {
		all = append(all, h.change(o, "another path", func(a *attempt) { a.path = strings.Split(a.path, "?")[0] + path }))
	}
	return all
}

// queries have parameters of the document, and others, that are not valid.
func (h *hostile) queries(o operation) (all []attempt) {
	for _, p := range o.Parameters {
		if p.Value.In != "query" {
			continue
		}
		for _, text := range texts() {
			for _, value := range []string{text, "title:eq:" + text, "created_at:gt:" + text, "id:in:" + text + "," + text} {
				all = append(all, h.change(o, "a query", func(a *attempt) { a.path = and(a.path, p.Value.Name+"="+url.QueryEscape(value)) }))
			}
		}
		for _, raw := range []string{"%00", "%ff", "%zz", "1&" + p.Value.Name + "=2", "[]", "id%3Ain%3A" + strings.Repeat("a%2C", 20_000)} {
			all = append(all, h.change(o, "a raw query", func(a *attempt) { a.path = and(a.path, p.Value.Name+"="+raw) }))
		}
	}
	if o.has("sort") {
		for _, field := range []string{"tenant_id", "-tenant_id", "deleted_at", "sealed", "hash", "id;--", "(SELECT 1)", "--", "-", "created_at,id"} {
			all = append(all, h.change(o, "a sort", func(a *attempt) { a.path += "?sort=" + url.QueryEscape(field); a.refused = true }))
		}
		for _, filter := range []string{"tenant_id:eq:victim", "deleted_at:ne:x", "hash:contains:a", "sealed:eq:a", "title:like:%", "title", ":", "::", "title:eq"} {
			all = append(all, h.change(o, "a filter", func(a *attempt) { a.path += "?filter=" + url.QueryEscape(filter); a.refused = true }))
		}
	}
	return all
}

// bodies are not as the schema says.
func (h *hostile) bodies(o operation) (all []attempt) {
	schema := o.schema()
	raw := func(what string, body string) attempt {
		return h.change(o, what, func(a *attempt) {
			a.body, a.refused = []byte(body), schema != nil
			a.header.Set("Content-Type", "application/json")
		})
	}
	for _, body := range []string{
		"", "{", "}", "null", "[]", "1", `"x"`, "{}x", "\x00", "\xff\xfe{}", "{\"\":1}", "{\"a\":\"\xff\"}", "<a/>", "a=b", `{"name":1e999}`, "\ufeff{}",
		strings.Repeat("[", 50_000), strings.Repeat(`{"a":`, 20_000), `{"name":"` + strings.Repeat("x", maxBodyOfAPI) + `"}`, strings.Repeat(" ", maxBodyOfAPI+1),
	} {
		all = append(all, raw("a body", body))
	}
	if schema == nil {
		return all
	}
	for _, field := range []string{"tenant_id", "tenantId", "TenantID", "id", "deleted_at", "deletion", "version", "created_at", "hash", "sealed", "set_by", "granted_by", "__proto__"} {
		if schema.Properties[field] == nil {
			all = append(all, h.change(o, "a field that is not its own", func(a *attempt) { a.body, a.refused = h.with(a.body, field, h.victim.tenant), true }))
		}
	}
	for field := range schema.Properties {
		for _, text := range texts() {
			all = append(all, h.change(o, "a text as "+field, func(a *attempt) { a.body = h.with(a.body, field, text) }))
		}
		for _, value := range []any{
			nil, true, -1, 0, 1.5, 1 << 40, -1 << 62, json.Number("1e30"), json.Number("123456789012345678901234567890"), []any{}, []any{nil}, []any{[]any{}}, object{},
			object{"a": nil}, slices.Repeat([]any{"tasks:read"}, 1000), []any{"\x00"}, []any{"victim"}, []any{1},
		} {
			all = append(all, h.change(o, "a value as "+field, func(a *attempt) { a.body = h.with(a.body, field, value) }))
		}
		all = append(all, h.change(o, "NUL in "+field, func(a *attempt) { a.body = h.with(a.body, field, "a\x00b") }),
			h.change(o, "twice "+field, func(a *attempt) {
				a.body = append([]byte(fmt.Sprintf(`{%q:%q,`, field, h.victim.ids["projects"])), a.body[1:]...)
			}))
	}
	return all
}

// maxBodyOfAPI is more than a body may have.
const maxBodyOfAPI = 256<<10 + 1

// headers have values that are not valid.
func (h *hostile) headers(o operation) (all []attempt) {
	for field, values := range map[string][]string{
		"Content-Type":    {"", "text/plain", "application/xml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "application/cbor", "a/b/c", "application/json; charset=utf-7", "\x00"},
		"Accept":          {"application/xml", "application/cbor", "*/*;q=x", "text/html", strings.Repeat("a,", 5000)},
		"If-Match":        {"", "1", `"-1"`, `"99999999999999999999"`, `W/"1"`, `"1", "2"`, "*", strings.Repeat("9", 5000), "\x00"},
		"Idempotency-Key": {"", " ", "theirs", strings.Repeat("k", 256), strings.Repeat("k", 255), "\x00", "é", "a b", "' OR 1=1"},
		"If-None-Match":   {"*", `"1"`}, "Range": {"bytes=0-1"}, "Transfer-Encoding": {"chunked"}, "Content-Encoding": {"gzip"}, "Expect": {"100-continue"},
		"Accept-Language": {strings.Repeat("a", 5000)}, "Prefer": {"return=representation"}, "X-Forwarded-For": {"::1", "x", strings.Repeat("1.1.1.1,", 500)},
	} {
		for _, value := range values {
			all = append(all, h.change(o, "a header field", func(a *attempt) { a.header[http.CanonicalHeaderKey(field)] = []string{value} }))
		}
	}
	return all
}
