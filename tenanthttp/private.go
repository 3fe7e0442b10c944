package tenanthttp

import (
	"io"
	"net/http"
	"slices"
	"strings"
)

// DangerouslyAllowSharedCaching leaves Cache-Control to the handler, and so lets proxies and CDNs keep responses. That is right for
// public pages whose URL names the tenant, by host or path. Anywhere else a cache can serve one tenant's page to another.
func DangerouslyAllowSharedCaching() Option {
	return func(m *middleware) { m.shared = true }
}

// private is a ResponseWriter that makes a response private when its header is sent.
type private struct {
	http.ResponseWriter
	vary    []string
	shared  bool // leave Cache-Control to the handler
	noStore bool // an outer middleware has said so, which is stricter
	sent    bool
}

// newPrivate sets the headers at once as well, for a handler that looks at them.
func newPrivate(w http.ResponseWriter, vary []string, shared bool) *private {
	_, noStore := privateDirectives(w.Header()["Cache-Control"])
	p := &private{ResponseWriter: w, vary: vary, shared: shared, noStore: noStore}
	p.fix()
	return p
}

// Unwrap is for http.ResponseController.
func (p *private) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// WriteHeader may be called several times, before the last with a status below 200.
func (p *private) WriteHeader(status int) {
	p.fix()
	p.sent = p.sent || status >= http.StatusOK || status == http.StatusSwitchingProtocols
	p.ResponseWriter.WriteHeader(status)
}

func (p *private) Write(b []byte) (int, error) {
	p.send()
	return p.ResponseWriter.Write(b)
}

// ReadFrom lets the server use sendfile if it can.
func (p *private) ReadFrom(src io.Reader) (int64, error) {
	p.send()
	if to, ok := p.ResponseWriter.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{p.ResponseWriter}, src)
}

// FlushError is for http.ResponseController.
func (p *private) FlushError() error {
	p.send()
	return http.NewResponseController(p.ResponseWriter).Flush()
}

func (p *private) send() {
	p.fix()
	p.sent = true
}

// fix makes the header private. It changes nothing once the header was sent, when what it would change are trailers.
func (p *private) fix() {
	if p.sent {
		return
	}
	header := p.Header()
	addVary(header, p.vary)
	if p.shared {
		return
	}
	value, _ := privateDirectives(header["Cache-Control"])
	if p.noStore {
		value = "no-store"
	}
	header.Set("Cache-Control", value)
	for name := range header {
		if commandsCDN(name) {
			header.Del(name)
		}
	}
}

// commandsCDN reports whether a header tells a shared cache to keep a response in spite of Cache-Control: those of RFC 9213, such as
// CDN-Cache-Control, and what came before it.
func commandsCDN(name string) bool {
	return strings.HasSuffix(name, "-Cache-Control") || name == "Surrogate-Control" || name == "Edge-Control" || name == "X-Accel-Expires"
}

// privateDirectives returns the value of Cache-Control (RFC 9111) without what allows a shared cache to keep the response, and with
// "private". It also reports whether it was "no-store", which is stricter.
func privateDirectives(values []string) (string, bool) {
	kept, noStore := []string{"private"}, false
	for _, directive := range split(strings.Join(values, ",")) {
		name, _, _ := strings.Cut(strings.ToLower(directive), "=")
		switch strings.TrimSpace(name) {
		case "public", "private", "s-maxage", "": // "private" with the name of a header leaves the rest public
		case "no-store":
			noStore = true
		default:
			kept = append(kept, directive)
		}
	}
	if noStore {
		return "no-store", true
	}
	return strings.Join(kept, ", "), false
}

// split splits a list at its commas, but not at those in quotes. It returns nothing of a list that ends within quotes.
func split(list string) (items []string) {
	begin, quoted := 0, false
	add := func(end int) {
		if item := strings.TrimSpace(list[begin:end]); item != "" {
			items = append(items, item)
		}
	}
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			add(i)
			begin = i + 1
		}
	}
	if quoted {
		return nil
	}
	add(len(list))
	return items
}

// addVary adds what the header Vary does not name yet.
func addVary(header http.Header, names []string) {
	there := split(strings.Join(header.Values("Vary"), ","))
	for _, name := range names {
		if !slices.ContainsFunc(there, func(t string) bool { return t == "*" || strings.EqualFold(t, name) }) {
			header.Add("Vary", name)
		}
	}
}

// flusher adds Flush, which a ResponseWriter should only have if it works.
type flusher struct{ *private }

func (f flusher) Flush() { _ = f.FlushError() }

// writer returns a ResponseWriter with the same optional interfaces as the server's, because libraries for WebSockets and
// streams ask for them by type assertion.
func (p *private) writer() http.ResponseWriter {
	_, flushes := p.ResponseWriter.(http.Flusher)
	hijack, hijacks := p.ResponseWriter.(http.Hijacker)
	push, pushes := p.ResponseWriter.(http.Pusher)
	switch {
	case flushes && hijacks && pushes:
		return struct {
			flusher
			http.Hijacker
			http.Pusher
		}{flusher{p}, hijack, push}
	case flushes && hijacks:
		return struct {
			flusher
			http.Hijacker
		}{flusher{p}, hijack}
	case flushes && pushes:
		return struct {
			flusher
			http.Pusher
		}{flusher{p}, push}
	case hijacks && pushes:
		return struct {
			*private
			http.Hijacker
			http.Pusher
		}{p, hijack, push}
	case flushes:
		return flusher{p}
	case hijacks:
		return struct {
			*private
			http.Hijacker
		}{p, hijack}
	case pushes:
		return struct {
			*private
			http.Pusher
		}{p, push}
	default:
		return p
	}
}
