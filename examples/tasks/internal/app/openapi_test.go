package app

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/clientgen"
)

// documentOf returns the OpenAPI document that an application serves.
func documentOf(t *testing.T, h http.Handler) (text []byte, document *openapi3.T) {
	t.Helper()
	text = []byte(client{t, h, ""}.want(http.StatusOK, http.MethodGet, clientgen.DocumentPath, nil).text)
	document, err := clientgen.Check(t.Context(), text)
	require.NoError(t, err)
	return text, document
}

// TestOpenAPIDocumentIsValid in both versions, and has a scope for each operation but sign-up.
func TestOpenAPIDocumentIsValid(t *testing.T) {
	h := start(t).Handler()
	_, document := documentOf(t, h)
	_, err := clientgen.Check(t.Context(), []byte(client{t, h, ""}.want(http.StatusOK, http.MethodGet, "/openapi.json", nil).text))
	require.NoError(t, err)
	var public []string
	for _, item := range document.Paths.Map() {
		for _, operation := range item.Operations() {
			if operation.Security == nil {
				public = append(public, operation.OperationID)
			}
		}
	}
	require.Equal(t, []string{"signUp"}, public)
}

// TestClientIsGenerated from the document that the application serves: generating it again changes nothing.
func TestClientIsGenerated(t *testing.T) {
	text, _ := documentOf(t, start(t).Handler())
	code, err := clientgen.Code(t.Context(), text)
	require.NoError(t, err)
	kept, err := os.ReadFile("../../client/client.gen.go")
	require.NoError(t, err)
	require.True(t, code == string(kept), "the routes have changed: go generate ./client")
}

// described compares answers with the document. A field that it does not have is an error, because its schemas allow no others.
type described struct {
	handler http.Handler
	router  routers.Router
}

func describe(t *testing.T, h http.Handler) described {
	t.Helper()
	_, document := documentOf(t, h)
	router, err := legacy.NewRouter(document)
	require.NoError(t, err)
	return described{h, router}
}

// RoundTrip answers a request. The error is that of an answer that the document does not describe.
func (d described) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody // as a server has it
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w.Result(), d.check(r, w)
}

func (d described) check(r *http.Request, w *httptest.ResponseRecorder) error {
	route, parameters, err := d.router.FindRoute(r)
	if err != nil {
		return err
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: parameters, Route: route},
		Status:                 w.Code, Header: w.Header(),
	}
	return openapi3filter.ValidateResponse(r.Context(), input.SetBodyBytes(w.Body.Bytes()))
}
