// API: a JSON API for projects, with login, tokens, and tenants by subdomain or by their own domains.
//
//	go run ./examples/api
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"log/slog"
	"net"
	"os"

	"github.com/gormtenancy/tenancy/examples/internal/demo"
	"github.com/gormtenancy/tenancy/examples/internal/passwords"
	"github.com/gormtenancy/tenancy/internal/pgserver"
	"github.com/gormtenancy/tenancy/tenanthttp"
)

// txtRecords allows trying the verification with domains that do not exist.
var txtRecords = flag.String("txt", "", "verify domains by the TXT records in this `file`, each a name and a value, instead of DNS")

func main() {
	slog.SetDefault(slog.New(tenanthttp.LogHandler(slog.NewTextHandler(os.Stderr, nil))))
	demo.Main(open)
}

func open(ctx context.Context, database *pgserver.Database) (demo.App, error) {
	key, err := signingKey(os.Getenv("API_SIGNING_KEY"))
	if err != nil {
		return demo.App{}, err
	}
	a, err := newAPI(ctx, database, config{
		log:       slog.Default(),
		key:       key,
		passwords: passwords.New(),
		txt:       records(*txtRecords),
	})
	if err != nil {
		return demo.App{}, err
	}
	return demo.App{Handler: a.handler(), Close: a.close, Try: try}, nil
}

// signingKey returns the key of a seed, 32 bytes in base64. An empty seed gives a new key, and tokens end with the process.
func signingKey(seed string) (ed25519.PrivateKey, error) {
	if seed == "" {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	b, err := base64.StdEncoding.DecodeString(seed)
	if err != nil || len(b) != ed25519.SeedSize {
		return nil, errors.New("API_SIGNING_KEY must be 32 random bytes in base64")
	}
	return ed25519.NewKeyFromSeed(b), nil
}

func records(file string) txtResolver {
	if file == "" {
		return net.DefaultResolver
	}
	return txtFile(file)
}

const try = `
Try, in another terminal:

  TOKEN=$(curl -s http://acme.localhost:PORT/login \
      -d '{"email":"ann@acme.example","password":"open sesame"}' | cut -d'"' -f4)
  curl -s http://acme.localhost:PORT/projects -H "Authorization: Bearer $TOKEN"
  curl -s http://globex.localhost:PORT/projects -H "Authorization: Bearer $TOKEN"
`
