package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gormtenancy/tenancy/internal/signing"
)

// newKey is a key that is added. Its secret is behind functions, so that printing it shows none.
type newKey struct {
	id      string
	secret  func() []byte
	encoded func() string // as the application reads it
}

// newKey makes the key, or reads it. No error holds a part of what was read.
func (c *keysCommand) newKey(s streams) (newKey, error) {
	switch {
	case c.to != "":
		return c.generate()
	case c.fromEnv != "":
		text := s.env(c.fromEnv)
		if text == "" {
			return newKey{}, errors.New("--from-env: the variable is not set (not shown: it may be the secret itself)")
		}
		return c.parse(text)
	case c.from == "-":
		text, err := io.ReadAll(io.LimitReader(s.in, maxKeyText))
		if err != nil {
			return newKey{}, fmt.Errorf("read the standard input: %w", err)
		}
		return c.parse(string(text))
	}
	text, err := os.ReadFile(c.from)
	if err != nil {
		return newKey{}, inFile(c.from, err)
	}
	return c.parse(string(text))
}

// maxKeyText is far more bytes than two keys have.
const maxKeyText = 64 << 10

func (c *keysCommand) generate() (newKey, error) {
	var notBefore time.Time
	if c.notBefore != "" {
		var err error
		if notBefore, err = time.Parse(time.RFC3339, c.notBefore); err != nil {
			return newKey{}, misused("--not-before: must be a time as in RFC 3339, such as 2026-12-01T06:00:00Z")
		}
	}
	secret := make([]byte, signing.MinSecret)
	if _, err := rand.Read(secret); err != nil {
		return newKey{}, err
	}
	return makeKey(c.id, secret, notBefore)
}

func makeKey(id string, secret []byte, notBefore time.Time) (newKey, error) {
	k, err := signing.NewKey(id, secret, notBefore)
	if err != nil {
		return newKey{}, err
	}
	return newKey{id: id, secret: func() []byte { return secret }, encoded: k.Encode}, nil
}

// parse reads a key as the application does, or a secret alone. Where there are several keys, --id says which.
func (c *keysCommand) parse(text string) (newKey, error) {
	if !strings.Contains(text, ":") {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		switch {
		case err != nil:
			return newKey{}, errors.New("the secret must be in base64, as of: openssl rand -base64 32")
		case c.id == "":
			return newKey{}, misused("there is a secret alone: say --id, or write id:secret")
		}
		return makeKey(c.id, secret, time.Time{})
	}
	keys, err := signing.ParseKeys(text)
	if err != nil {
		return newKey{}, err
	}
	if c.id == "" && len(keys) > 1 {
		return newKey{}, misused("there are several keys: say which by --id")
	}
	for _, k := range keys {
		if c.id != "" && k.ID() != c.id {
			continue
		}
		return newKey{id: k.ID(), secret: k.Secret, encoded: k.Encode}, nil
	}
	return newKey{}, errors.New("what was read has no key of this --id")
}

// save writes the key to a new file that only the user can read.
func (k newKey) save(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return errors.New("--to: the file exists already, and is not overwritten")
	}
	if err != nil {
		return inFile(path, err)
	}
	_, err = file.WriteString(k.encoded() + "\n")
	if err == nil {
		err = file.Sync()
	}
	if closing := file.Close(); err == nil {
		err = closing
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return inFile(path, err)
}
