package webhooks

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
)

// received is a request that a receiver has got.
type received struct {
	path, id string
	header   http.Header
	body     []byte
}

// receiver is a server of endpoints.
type receiver struct {
	URL string

	mu       sync.Mutex
	requests []received
	handler  func(w http.ResponseWriter, r *http.Request)
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender has gone
	}
	r.mu.Lock()
	r.requests = append(r.requests, received{req.URL.Path, req.Header.Get("webhook-id"), req.Header.Clone(), body})
	handler := r.handler
	r.mu.Unlock()
	if handler != nil {
		handler(w, req)
	}
}

// answer has the receiver answer in another way from now on.
func (r *receiver) answer(handler http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handler = handler
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprintf(w, "answer %d", code)
	}
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.requests...)
}

func (r *receiver) count() int { return len(r.all()) }

// verify verifies a request with the library of Standard Webhooks.
func (r received) verify(secret string) error {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return webhook.Verify(r.body, r.header)
}

// listener is an address where nothing listens until it serves.
type listener struct{ addr string }

func newListener(t *testing.T) listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return listener{l.Addr().String()}
}

// serve starts a receiver at the address.
func (l listener) serve(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewUnstartedServer(r)
	require.NoError(t, server.Listener.Close())
	var err error
	server.Listener, err = net.Listen("tcp", l.addr)
	require.NoError(t, err)
	server.Start()
	t.Cleanup(server.Close)
	r.URL = server.URL
	return r
}
