package meter

import (
	"crypto/rand"
	"net/http"
	"regexp"
)

const idHeader = "X-Request-Id"

// saneID matches an id that is safe in a log and in a header.
var saneID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// idOf returns the id that a proxy has given the request, or a new one.
func idOf(r *http.Request) string {
	if ids := r.Header.Values(idHeader); len(ids) == 1 && saneID.MatchString(ids[0]) {
		return ids[0]
	}
	return rand.Text()
}
