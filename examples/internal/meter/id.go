package meter

import (
	"crypto/rand"
	"net/http"
	"regexp"
)

const idHeader = "X-Request-Id"

// saneID is what may stand in a log and in a header without a second thought.
var saneID = regexp.MustCompile(`^[A-Za-z0-9._-]{8,64}$`)

// idOf takes the id that a proxy has given the request, if it is one, or makes one.
func idOf(r *http.Request) string {
	if ids := r.Header.Values(idHeader); len(ids) == 1 && saneID.MatchString(ids[0]) {
		return ids[0]
	}
	return rand.Text()
}
