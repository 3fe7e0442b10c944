package idempotency

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
)

// response keeps an answer until its transaction is committed. It cannot be flushed or hijacked: what the client has seen could not be
// taken back.
type response struct {
	before   http.Header // set by the middlewares around
	header   http.Header
	status   int
	body     bytes.Buffer
	max      int
	tooLarge bool
}

func newResponse(before http.Header, most int) *response {
	return &response{before: before.Clone(), header: before.Clone(), max: most}
}

func (p *response) Header() http.Header { return p.header }

// WriteHeader takes the first final status.
func (p *response) WriteHeader(status int) {
	if p.status == 0 && status >= http.StatusOK {
		p.status = status
	}
}

func (p *response) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	if p.body.Len()+len(b) > p.max {
		p.tooLarge = true
		return 0, errTooLarge
	}
	return p.body.Write(b)
}

// send writes the answer to the client.
func (p *response) send(w http.ResponseWriter) {
	to := w.Header()
	clear(to)
	for name, values := range p.header {
		to[name] = values
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body.Bytes()) // fails only if the client is gone
}

// notStored are headers of one connection, or of one client: a cookie is a credential.
var notStored = []string{
	"Set-Cookie", "Date", "Connection", "Keep-Alive", "Transfer-Encoding", "Trailer", "Upgrade", "Proxy-Authenticate",
}

// record is what is stored of the answer: of the header what the handler itself has set, because the rest, such as a request id, belongs to
// one attempt.
func (p *response) record(r *Record) {
	own := http.Header{}
	for name, values := range p.header {
		if !slices.Equal(values, p.before[name]) && !slices.Contains(notStored, name) {
			own[name] = values
		}
	}
	r.Status, r.Body = p.status, append([]byte{}, p.body.Bytes()...)
	r.Header, _ = json.Marshal(own) // never fails
}

// replay writes a stored answer.
func replay(w http.ResponseWriter, r *Record) error {
	var stored http.Header
	if err := json.Unmarshal(r.Header, &stored); err != nil {
		return err
	}
	for name, values := range stored {
		w.Header()[name] = values
	}
	w.Header().Set("Idempotent-Replayed", "true")
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.Body)
	return nil
}

// problem answers with application/problem+json (RFC 9457), as tenanthttp.Problem does.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if status == http.StatusConflict {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{"about:blank", http.StatusText(status), status, detail})
}
