// Package request keeps what is learned about a request while its tenant is looked for: by resolvers, caches and the middleware,
// which know nothing of each other.
package request

import (
	"context"
	"net/textproto"
	"slices"
	"sync"
)

// Notes belong to one request. They are safe for concurrent use. All methods work on nil, which notes nothing.
type Notes struct {
	mu      sync.Mutex
	vary    []string
	refused []func(context.Context)
	values  map[any]any
}

type notesKey struct{}

// With returns the notes of a context, and a context with new ones if it has none.
func With(ctx context.Context) (context.Context, *Notes) {
	if n := Of(ctx); n != nil {
		return ctx, n
	}
	n := &Notes{values: map[any]any{}}
	return context.WithValue(ctx, notesKey{}, n), n
}

// Of returns the notes of a context, or nil.
func Of(ctx context.Context) *Notes {
	n, _ := ctx.Value(notesKey{}).(*Notes)
	return n
}

// DependsOn notes that the response depends on these request headers.
func (n *Notes) DependsOn(headers ...string) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, header := range headers {
		if header = textproto.CanonicalMIMEHeaderKey(header); !slices.Contains(n.vary, header) {
			n.vary = append(n.vary, header)
		}
	}
}

// Vary returns the headers that were noted, in order.
func (n *Notes) Vary() []string {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.vary)
}

// OnRefusal notes what must be done if the request is refused.
func (n *Notes) OnRefusal(do func(context.Context)) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refused = append(n.refused, do)
}

// Refuse does what OnRefusal has noted, once.
func (n *Notes) Refuse(ctx context.Context) {
	if n == nil {
		return
	}
	n.mu.Lock()
	todo := n.refused
	n.refused = nil
	n.mu.Unlock()
	for _, do := range todo {
		do(ctx)
	}
}

// Set notes a value.
func (n *Notes) Set(key, value any) {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.values[key] = value
}

// Get returns a value that Set has noted, or nil.
func (n *Notes) Get(key any) any {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.values[key]
}
