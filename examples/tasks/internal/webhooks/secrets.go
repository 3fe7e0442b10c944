package webhooks

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// secretPrefix begins the text of each secret, as Standard Webhooks asks.
const secretPrefix = "whsec_"

// keyring seals secrets. A signature needs the secret itself, so that it cannot be kept as a hash; sealed, a copy of the database or SQL
// of a tenant has no secret, and the key is not in the database. A sealed secret opens in its own row only.
type keyring []cipher.AEAD

func newKeyring(keys [][]byte) (ring keyring, err error) {
	for _, key := range keys {
		if len(key) != 32 {
			return nil, errors.New("each key must have 32 bytes")
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		ring = append(ring, aead)
	}
	if len(ring) == 0 {
		return nil, errors.New("there is none, and secrets are not kept in the clear")
	}
	return ring, nil
}

// seal makes the Sealed of a new row, whose other fields are set.
func (k keyring) seal(of *Secret, key []byte) { of.Sealed = k[0].Seal(nil, nil, key, of.place()) }

var errSealed = errors.New("webhooks: a secret does not open with the keys of Config.Keys, or is not of this row")

func (k keyring) open(of Secret) ([]byte, error) {
	for _, aead := range k {
		if key, err := aead.Open(nil, nil, of.Sealed, of.place()); err == nil {
			return key, nil
		}
	}
	return nil, errSealed
}

// place is what a sealed secret is bound to.
func (s Secret) place() []byte {
	return []byte(strings.Join([]string{"webhook secret", s.TenantID, s.EndpointID, s.ID}, "\x00"))
}

// newSecret returns the row of a new secret, and its text, which is shown once.
func (k keyring) newSecret(tenant, endpoint string) (Secret, string) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	row := Secret{ID: newID(), TenantID: tenant, EndpointID: endpoint}
	k.seal(&row, key)
	return row, secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// sign returns the value of the header webhook-signature: one signature for each secret that is valid.
func (k keyring) sign(secrets []Secret, id string, at time.Time, body string) (string, error) {
	var signatures []string
	for _, secret := range secrets {
		if secret.ExpiresAt != nil && !at.Before(*secret.ExpiresAt) {
			continue
		}
		key, err := k.open(secret)
		if err != nil {
			return "", err
		}
		webhook, err := standardwebhooks.NewWebhookRaw(key)
		if err != nil {
			return "", fmt.Errorf("webhooks: sign: %w", err)
		}
		signature, err := webhook.Sign(id, at, []byte(body))
		if err != nil {
			return "", fmt.Errorf("webhooks: sign: %w", err)
		}
		signatures = append(signatures, signature)
	}
	if len(signatures) == 0 {
		return "", errors.New("webhooks: the endpoint has no secret")
	}
	return strings.Join(signatures, " "), nil
}
