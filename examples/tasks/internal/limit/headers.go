package limit

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// usage is the state of one bucket.
type usage struct {
	name   string
	rate   Rate
	tokens float64
}

// remaining is the number of requests that are allowed now.
func (u usage) remaining() int { return max(0, int(u.tokens)) }

// full is the time until the bucket is full, in whole seconds.
func (u usage) full() int {
	return seconds((float64(u.rate.Burst) - u.tokens) * u.rate.Every.Seconds())
}

// next is the time until one more request is allowed, in whole seconds.
func (u usage) next() int { return seconds((1 - u.tokens) * u.rate.Every.Seconds()) }

func seconds(s float64) int { return max(0, int(math.Ceil(s-1e-9))) }

// describe sets the header fields RateLimit-Policy and RateLimit of the IETF's draft (draft-ietf-httpapi-ratelimit-headers): q requests in w
// seconds, of which r remain, and t seconds until all are there again.
func describe(h http.Header, usages []usage) {
	var policies, states []string
	for _, u := range usages {
		policies = append(policies, fmt.Sprintf("%q;q=%d;w=%d", u.name, u.rate.Burst, max(1, seconds(u.rate.window().Seconds()))))
		states = append(states, fmt.Sprintf("%q;r=%d;t=%d", u.name, u.remaining(), u.full()))
	}
	h.Set("RateLimit-Policy", strings.Join(policies, ", "))
	h.Set("RateLimit", strings.Join(states, ", "))
}

// refuse answers 429, with a problem (RFC 9457). Retry-After is when all of the buckets allow a request again.
func refuse(w http.ResponseWriter, usages ...usage) {
	describe(w.Header(), usages)
	after := 1
	for _, u := range usages {
		after = max(after, u.next())
	}
	w.Header().Set("Retry-After", strconv.Itoa(after))
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusTooManyRequests)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"title": http.StatusText(http.StatusTooManyRequests), "status": http.StatusTooManyRequests,
		"detail": "too many requests: try again in " + (time.Duration(after) * time.Second).String(),
	})
}
