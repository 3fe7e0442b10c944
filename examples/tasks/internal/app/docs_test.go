package app

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocsLoadNothingFromElsewhere: the page has each operation of the document, no script, and no address of another origin.
func TestDocsLoadNothingFromElsewhere(t *testing.T) {
	h := start(t).Handler()
	answer := client{t, h, ""}.want(http.StatusOK, http.MethodGet, "/docs", nil)
	require.Equal(t, "text/html; charset=utf-8", answer.header.Get("Content-Type"))
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(answer.text)
	require.Len(t, style, 2)
	sum := sha256.Sum256([]byte(style[1]))
	require.Equal(t, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; img-src data:; base-uri 'none'; "+
		"form-action 'none'; frame-ancestors 'none'", answer.header.Get("Content-Security-Policy"))
	for _, loaded := range regexp.MustCompile(`(?i)(?:src|href|action|data)="([^"]*)"`).FindAllStringSubmatch(answer.text, -1) {
		require.Contains(t, []string{"data:,", "/openapi.json"}, loaded[1])
	}
	require.NotRegexp(t, `(?i)<script|<link rel="?style| on\w+=`, answer.text)

	_, document := documentOf(t, h)
	operations := 0
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			operations++
			require.Regexp(t, `<section id="`+operation.OperationID+`">\s*<h3><code>`+method+" "+regexp.QuoteMeta(path)+`</code>`, answer.text)
		}
	}
	require.Positive(t, operations)
}
