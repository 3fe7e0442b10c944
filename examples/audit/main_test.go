package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

func TestMain(m *testing.M) { pgserver.Main(m) }

func TestTenantsReadTheirRecords(t *testing.T) {
	var out strings.Builder
	require.NoError(t, run(t.Context(), pgserver.New(t), &out))
	require.Equal(t, `acme reads 6 records
  INSERT invoices {"id": 1}: nothing -> {"id": 1, "card": "***", "total": 100, "tenant_id": "acme"}, by ann
  INSERT invoices {"id": 2}: nothing -> {"id": 2, "card": "***", "total": 200, "tenant_id": "acme"}, by ann
  UPDATE invoices {"id": 1}: {"total": 100} -> {"total": 101}, by bob
  UPDATE invoices {"id": 2}: {"total": 200} -> {"total": 201}, by bob
  UPDATE invoices {"id": 1}: {"card": "***"} -> {"card": "***"}, by bob
  DELETE invoices {"id": 2}: {"id": 2, "card": "***", "total": 201, "tenant_id": "acme"} -> nothing, by remove paid invoices
globex reads 0 records
`, out.String())
}
