package webhooks

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"code.dny.dev/ssrf"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// maxExcerpt is how many bytes of an answer's body are read and kept.
const maxExcerpt = 1 << 10

// result is what became of a request.
type result struct {
	status  int    // 0: no answer
	problem string // empty: a success. One of a few texts: errors of the network hold addresses
	wait    time.Duration
	latency time.Duration
	excerpt string
}

func (r result) ok() bool { return r.problem == "" }

// send sends an event to a URL, once.
func (s *Service) send(ctx context.Context, address string, event Event, secrets []Secret) result {
	began := time.Now()
	r := s.request(ctx, address, event, secrets, began)
	r.latency = time.Since(began)
	return r
}

func (s *Service) request(ctx context.Context, address string, event Event, secrets []Secret, now time.Time) result {
	if _, err := s.target.parse(address); err != nil { // a row can be written without Service
		return result{problem: err.Error()}
	}
	signatures, err := s.keys.sign(secrets, event.ID, now, event.Body)
	if err != nil {
		s.config.Logger.ErrorContext(ctx, "webhooks: cannot sign", "error", err, "event", event.ID)
		return result{problem: "the message cannot be signed: rotate the secret of the endpoint"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(event.Body))
	if err != nil {
		return result{problem: "the URL is not valid"}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "tasks-webhooks")
	request.Header.Set(standardwebhooks.HeaderWebhookID, event.ID)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signatures)
	response, err := s.http.Do(request)
	if err != nil {
		return result{problem: problemOf(err)}
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxExcerpt)) // what there is of it: the status is the answer
	return result{
		status: response.StatusCode, problem: problemOfStatus(response.StatusCode),
		wait: retryAfter(response.Header, now), excerpt: excerpt(body, strings.Fields(signatures)),
	}
}

func problemOfStatus(status int) string {
	switch {
	case status >= 200 && status < 300:
		return ""
	case status >= 300 && status < 400:
		return "the endpoint redirects, which is not followed"
	}
	return "the endpoint has answered with an error"
}

// problemOf says what an error of the network is, without its text.
func problemOf(err error) string {
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.Is(err, ssrf.ErrProhibitedIP), errors.Is(err, ssrf.ErrProhibitedNetwork), errors.Is(err, ssrf.ErrInvalidHostPort):
		return "the address of the endpoint is not a public one"
	case errors.Is(err, ssrf.ErrProhibitedPort):
		return "the port of the endpoint is not one that events are sent to"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "the endpoint has not answered in time"
	case errors.As(err, &dns):
		return "the name of the endpoint has no address"
	case errors.As(err, &certificate), errors.As(err, &header):
		return "the endpoint has no valid certificate"
	}
	return "the connection to the endpoint has failed"
}

var secretText = regexp.MustCompile(secretPrefix + `[A-Za-z0-9+/=_-]*`)

// excerpt makes text of the beginning of an answer that PostgreSQL can store. What was sent as signature, and what looks like a secret,
// is left out, because some endpoints answer with the request.
func excerpt(body []byte, signatures []string) string {
	text := strings.ToValidUTF8(string(body), "\uFFFD")
	for _, signature := range signatures {
		text = strings.ReplaceAll(text, strings.TrimPrefix(signature, "v1,"), "[signature]")
	}
	text = secretText.ReplaceAllString(text, "[secret]")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, text)
}
