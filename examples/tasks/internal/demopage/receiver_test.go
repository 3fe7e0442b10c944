package demopage

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestReceiverVerifies: what is not signed with the secret of the tenant's endpoint is refused, and what it says is not shown.
func TestReceiverVerifies(t *testing.T) {
	r, err := newReceiver()
	require.NoError(t, err)
	defer func() { require.NoError(t, r.close()) }()
	require.NoError(t, r.trust("acme", secret))
	require.NoError(t, r.trust("globex", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"))
	require.ErrorContains(t, r.trust("acme", "whsec_%"), "cannot be used")

	require.Equal(t, http.StatusOK, send(t, r.url+"/acme", "m1"))
	require.Equal(t, http.StatusUnauthorized, send(t, r.url+"/globex", "m2"))
	require.Equal(t, http.StatusNotFound, send(t, r.url+"/initech", "m3"))

	got := r.of("acme")
	require.Len(t, got, 1)
	require.Equal(t, Message{ID: "m1", Type: "task.created", Task: "t1", At: got[0].At, Verified: true}, got[0])
	got = r.of("globex")
	require.Len(t, got, 1)
	require.Equal(t, Message{ID: "m2", At: got[0].At}, got[0])
	require.Empty(t, r.of("initech"))
}

// TestReceiverKeepsTheNewest: it does not grow.
func TestReceiverKeepsTheNewest(t *testing.T) {
	r, err := newReceiver()
	require.NoError(t, err)
	defer func() { require.NoError(t, r.close()) }()
	require.NoError(t, r.trust("acme", secret))
	for i := range kept + 1 {
		require.Equal(t, http.StatusOK, send(t, r.url+"/acme", strconv.Itoa(i)))
	}
	got := r.of("acme")
	require.Len(t, got, kept)
	require.Equal(t, strconv.Itoa(kept), got[0].ID)
}

// send sends a message that is signed with secret.
func send(t *testing.T, url, id string) (status int) {
	t.Helper()
	const body = `{"type":"task.created","data":{"id":"t1"}}`
	webhook, err := standardwebhooks.NewWebhook(secret)
	require.NoError(t, err)
	now := time.Now()
	signature, err := webhook.Sign(id, now, []byte(body))
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", signature)
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}
