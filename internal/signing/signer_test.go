package signing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func claims() Claims {
	return Claims{Kind: Tenant, Setting: "app.tenant_id", Tenant: "a", Login: "app", Process: 7}
}

// TestSignerSignsWithTheNewestKey, which takes over at its time.
func TestSignerSignsWithTheNewestKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		later := time.Now().Add(time.Hour)
		s := NewSigner(func(context.Context) ([]Key, error) {
			return []Key{newKey(t, "new", later), newKey(t, "old", time.Time{}), newKey(t, "last", time.Time{})}, nil
		}, 10*time.Minute, false, slog.New(slog.DiscardHandler))
		if s.Signs("last") {
			t.Error("no key was read yet")
		}
		signed, err := s.Sign(t.Context(), claims())
		if err != nil || signed.Key != "last" || !s.Signs("last") {
			t.Fatal(err, signed.Key)
		}
		if !signed.Renew.Equal(time.Now().Add(5*time.Minute)) || !signed.Expires.Equal(time.Now().Add(10*time.Minute)) {
			t.Error(signed.Renew, signed.Expires)
		}
		time.Sleep(time.Hour)
		if signed, err = s.Sign(t.Context(), claims()); err != nil || signed.Key != "new" || s.Signs("last") {
			t.Error(err, signed.Key)
		}
		synctest.Wait()
	})
}

// TestSignerReadsTheKeysAgain beside the statements, and goes on with those it knows when that fails.
func TestSignerReadsTheKeysAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		source := func(context.Context) ([]Key, error) { return []Key{newKey(t, "one", time.Time{})}, nil }
		s := NewSigner(func(ctx context.Context) ([]Key, error) { return source(ctx) }, time.Minute, false, slog.New(slog.NewTextHandler(&logged, nil)))
		sign := func() string {
			t.Helper()
			signed, err := s.Sign(t.Context(), claims())
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return signed.Key
		}
		sign()
		for _, broken := range []func(context.Context) ([]Key, error){
			func(context.Context) ([]Key, error) { return nil, errors.New("the vault is closed") },
			func(context.Context) ([]Key, error) { panic(secretText) },
			func(context.Context) ([]Key, error) { return nil, nil },
			func(context.Context) ([]Key, error) { return []Key{{}}, nil },
			func(context.Context) ([]Key, error) { return []Key{newKey(t, "early", time.Now().Add(time.Hour))}, nil },
		} {
			source = broken
			time.Sleep(2 * refreshAfter)
			logged.Reset()
			if got := sign(); got != "one" || !strings.Contains(logged.String(), "could not be read again") || strings.Contains(logged.String(), secretText) {
				t.Error(got, logged.String())
			}
			logged.Reset()
			if sign(); logged.Len() > 0 {
				t.Error("the source was asked with each statement")
			}
		}
		source = func(context.Context) ([]Key, error) { return []Key{newKey(t, "two", time.Time{})}, nil }
		time.Sleep(2 * refreshAfter)
		sign()
		if got := sign(); got != "two" {
			t.Error(got)
		}
	})
}

// TestSignerRefuses what would be a proof of too much.
func TestSignerRefuses(t *testing.T) {
	t.Parallel()
	source := func(context.Context) ([]Key, error) { return []Key{newKey(t, "one", time.Time{})}, nil }
	s := NewSigner(source, time.Minute, false, slog.New(slog.DiscardHandler))
	empty, unknown := claims(), claims()
	empty.Tenant, unknown.Process = "", 0
	for _, c := range []Claims{empty, unknown} {
		if signed, err := s.Sign(t.Context(), c); err == nil || signed.Proof != nil {
			t.Errorf("%+v", c)
		}
	}
	open := NewSigner(source, time.Minute, true, slog.New(slog.DiscardHandler))
	signed, err := open.Sign(t.Context(), unknown)
	if err != nil || signed.Proof[digestDigits+2] != unbound {
		t.Error(err)
	}
	missing := NewSigner(func(context.Context) ([]Key, error) { return nil, errors.New("the vault is closed") }, time.Minute, false, nil)
	if _, err := missing.Sign(t.Context(), claims()); err == nil {
		t.Error("signed without a key")
	}
}

// TestSignersAgree where proofs of both are alike, and a key is common: keys may have changed since one of them read them.
func TestSignersAgree(t *testing.T) {
	key := func(id string, letter byte) Key {
		k, err := NewKey(id, bytes.Repeat([]byte{letter}, MinSecret), time.Time{})
		require.NoError(t, err)
		return k
	}
	signer := func(lifetime time.Duration, unbound bool, keys ...Key) *Signer {
		return NewSigner(func(context.Context) ([]Key, error) { return keys, nil }, lifetime, unbound, slog.New(slog.DiscardHandler))
	}
	first, second := key("first", 'f'), key("second", 's')
	one := signer(time.Minute, false, first, second)
	var none *Signer
	for _, tt := range []struct {
		name  string
		a, b  *Signer
		agree bool
	}{
		{"no signers", none, none, true},
		{"itself", one, one, true},
		{"a key in common", one, signer(time.Minute, false, key("second", 's'), key("third", 't')), true},
		{"one without keys", one, none, false},
		{"other keys", one, signer(time.Minute, false, key("third", 't')), false},
		{"another secret of the same id", one, signer(time.Minute, false, key("first", 'x')), false},
		{"the same secret under another id", one, signer(time.Minute, false, key("other", 'f')), false},
		{"another lifetime", one, signer(time.Hour, false, first, second), false},
		{"unbound proofs", one, signer(time.Minute, true, first, second), false},
	} {
		for _, pair := range [][2]*Signer{{tt.a, tt.b}, {tt.b, tt.a}} {
			agree, err := pair[0].Agrees(t.Context(), pair[1])
			require.NoError(t, err, tt.name)
			require.Equal(t, tt.agree, agree, tt.name)
		}
	}
	fails := NewSigner(func(context.Context) ([]Key, error) { return nil, errors.New("no file") }, time.Minute, false, slog.New(slog.DiscardHandler))
	for _, pair := range [][2]*Signer{{signer(time.Minute, false, first), fails}, {fails, signer(time.Minute, false, first)}} {
		_, err := pair[0].Agrees(t.Context(), pair[1])
		require.ErrorContains(t, err, "read the signing keys: no file")
	}
}
