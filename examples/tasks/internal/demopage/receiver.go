package demopage

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// kept is how many messages of a tenant the receiver remembers.
const kept = 20

// Message is a webhook that was received.
type Message struct {
	ID       string    `json:"id"`   // of the event
	Type     string    `json:"type"` // such as "task.created"
	Task     string    `json:"task"` // the id of the row that it is about
	At       time.Time `json:"at"`
	Verified bool      `json:"verified"` // the signature is that of the tenant's endpoint
}

// receiver is a server on this machine that stands for those of the tenants.
type receiver struct {
	url    string
	server *http.Server
	done   chan error

	mu       sync.Mutex
	secrets  map[string]*standardwebhooks.Webhook
	messages map[string][]Message // of a tenant, the newest first
}

func newReceiver() (*receiver, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{
		url: "http://" + listener.Addr().String(), done: make(chan error, 1),
		secrets: map[string]*standardwebhooks.Webhook{}, messages: map[string][]Message{},
	}
	r.server = &http.Server{Handler: r, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	go func() { r.done <- r.server.Serve(listener) }()
	return r, nil
}

func (r *receiver) close() error {
	err := r.server.Close()
	if served := <-r.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (r *receiver) trust(tenant, secret string) error {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return errors.New("demopage: the secret of an endpoint cannot be used")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets[tenant] = webhook
	return nil
}

// of returns the messages of a tenant.
func (r *receiver) of(tenant string) []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Message{}, r.messages[tenant]...)
}

// ServeHTTP takes a message at the path of a tenant, and refuses it if its signature is wrong.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	tenant := strings.TrimPrefix(req.URL.Path, "/")
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 512<<10))
	r.mu.Lock()
	defer r.mu.Unlock()
	secret := r.secrets[tenant]
	if err != nil || secret == nil {
		http.Error(w, "no such endpoint", http.StatusNotFound)
		return
	}
	var said struct {
		Type string
		Data struct{ ID string }
	}
	message := Message{ID: req.Header.Get("webhook-id"), At: time.Now(), Verified: secret.Verify(body, req.Header) == nil}
	if message.Verified && json.Unmarshal(body, &said) == nil {
		message.Type, message.Task = said.Type, said.Data.ID
	}
	all := append([]Message{message}, r.messages[tenant]...)
	r.messages[tenant] = all[:min(len(all), kept)]
	if !message.Verified {
		http.Error(w, "wrong signature", http.StatusUnauthorized)
	}
}
