package tenanthttp

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// jwk is a JSON Web Key (RFC 7517, RFC 7518 section 6, RFC 8037).
type jwk struct {
	Type      string   `json:"kty"`
	ID        string   `json:"kid"`
	Use       string   `json:"use"`
	Uses      []string `json:"key_ops"`
	Algorithm string   `json:"alg"`
	Curve     string   `json:"crv"`
	X         string   `json:"x"`
	Y         string   `json:"y"`
	N         string   `json:"n"`
	E         string   `json:"e"`
	Secret    string   `json:"k"`
	Private   string   `json:"d"`

	key any
}

// keySet holds the keys of a JSON Web Key Set by their kid.
type keySet map[string]*jwk

// parseJWKS reads the keys that verify signatures. Unknown kinds of keys are skipped, as RFC 7517 asks.
func parseJWKS(document []byte) (keySet, error) {
	var set struct{ Keys []*jwk }
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, errors.New("tenanthttp: TokenConfig.JWKS is not JSON of the form {\"keys\": […]}")
	}
	keys := keySet{}
	for i, k := range set.Keys {
		if k == nil || k.Use != "" && k.Use != "sig" || k.Uses != nil && !slices.Contains(k.Uses, "verify") {
			continue
		}
		err := k.parse()
		if err == nil && k.key != nil && keys[k.ID] != nil {
			err = errors.New("it has the same kid as another key")
		}
		if err != nil {
			return nil, fmt.Errorf("tenanthttp: key %d of TokenConfig.JWKS: %w", i+1, err)
		}
		if k.key != nil {
			keys[k.ID] = k
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("tenanthttp: TokenConfig.JWKS holds no key that verifies signatures")
	}
	return keys, nil
}

// find is a TokenConfig.Key. A key that names its algorithm is used for no other.
func (s keySet) find(_ context.Context, kid, algorithm string) (any, error) {
	k := s[kid]
	if k == nil || k.Algorithm != "" && k.Algorithm != algorithm {
		return nil, ErrUnauthenticated
	}
	return k.key, nil
}

// parse makes the key from its parameters. It makes none of an unknown kind.
func (k *jwk) parse() (err error) {
	if k.Private != "" {
		return errors.New("it is a private key; give the public one")
	}
	switch k.Type + " " + k.Curve {
	case "RSA ":
		k.key, err = k.rsa()
	case "EC P-256":
		k.key, err = k.ec(elliptic.P256())
	case "EC P-384":
		k.key, err = k.ec(elliptic.P384())
	case "EC P-521":
		k.key, err = k.ec(elliptic.P521())
	case "OKP Ed25519":
		k.key, err = k.ed25519()
	case "oct ":
		k.key, err = decode(k.Secret)
	}
	return err
}

func (k *jwk) rsa() (any, error) {
	n, errN := decode(k.N)
	e, errE := decode(k.E)
	if err := errors.Join(errN, errE); err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if modulus.BitLen() < 2048 || exponent.BitLen() > 31 || exponent.Bit(0) == 0 || exponent.BitLen() < 2 {
		return nil, errors.New("an RSA key must have 2048 bits or more, and an odd exponent of 3 or more")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func (k *jwk) ec(curve elliptic.Curve) (any, error) {
	x, errX := decode(k.X)
	y, errY := decode(k.Y)
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	if size := (curve.Params().BitSize + 7) / 8; len(x) != size || len(y) != size {
		return nil, errors.New("its point does not have the size of its curve")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
	if err != nil {
		return nil, errors.New("its point is not on its curve")
	}
	return key, nil
}

func (k *jwk) ed25519() (any, error) {
	x, err := decode(k.X)
	if err == nil && len(x) != ed25519.PublicKeySize {
		err = errors.New("an Ed25519 key must have 32 bytes")
	}
	return ed25519.PublicKey(x), err
}

func decode(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) == 0 {
		return nil, errors.New("a parameter is missing, or not base64url without padding")
	}
	return b, nil
}
