package signing

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

const secretText = "0123456789abcdef-very-secret-0123"

func newKey(t testing.TB, id string, notBefore time.Time) Key {
	t.Helper()
	k, err := NewKey(id, []byte(secretText), notBefore)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyIsNeverPrinted tries every printer of the standard library, on the key and on what holds it.
func TestKeyIsNeverPrinted(t *testing.T) {
	t.Parallel()
	k := newKey(t, "one", time.Time{})
	type exported struct{ K Key }
	type unexported struct {
		k  Key
		of []Key
	}
	var texts []string
	for _, value := range []any{k, &k, []Key{k}, map[string]Key{"k": k}, exported{k}, &exported{k}, unexported{k, []Key{k}}, &unexported{k, nil}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		slog.New(slog.NewTextHandler(&logged, nil)).Info("a", "key", value)
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("a", "key", value)
		texts = append(texts, string(encoded), logged.String())
	}
	secret := []byte(secretText)
	for _, text := range texts {
		for _, hidden := range []string{
			secretText, hex.EncodeToString(secret), strings.ToUpper(hex.EncodeToString(secret)),
			base64.StdEncoding.EncodeToString(secret), strings.Trim(fmt.Sprintf("%d", secret), "[]"),
		} {
			if strings.Contains(text, hidden) {
				t.Errorf("%s holds the secret", text)
			}
		}
	}
	if got := fmt.Sprintf("%v %#v %x", k, k, k); got != "signing key one signing key one signing key one" {
		t.Error(got)
	}
}

func TestParseKeysReadsWhatEncodeWrites(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 12, 1, 6, 0, 0, 0, time.UTC)
	text := "# both\n\n" + newKey(t, "one", time.Time{}).Encode() + "\n" + newKey(t, "two", from).Encode() + ", " + newKey(t, "three", from).Encode() + "\n"
	keys, err := ParseKeys(text)
	if err != nil || len(keys) != 3 {
		t.Fatal(err, len(keys))
	}
	for n, want := range []string{"one", "two", "three"} {
		if keys[n].ID() != want || string(keys[n].secret()) != secretText || keys[n].NotBefore().IsZero() != (n == 0) {
			t.Error(n, keys[n])
		}
	}
}

// FuzzParseKeys: no error holds what could be a secret.
func FuzzParseKeys(f *testing.F) {
	encoded := base64.StdEncoding.EncodeToString([]byte(secretText))
	for _, text := range []string{
		"", "one", "one:", "one:" + encoded, "one:" + encoded + ":", "one:" + encoded + ":" + encoded, encoded, encoded + ":" + encoded,
		"one:" + encoded + "!", "one:c2hvcnQ=", "one:" + encoded + ",one:" + encoded, ":" + encoded, "#", "one:" + encoded + "\ntwo:" + encoded,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := ParseKeys(text)
		if (err == nil) != (len(keys) > 0 && CheckKeys(keys) == nil) {
			t.Fatal(len(keys), err)
		}
		if err == nil {
			return
		}
		for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ':' || r == ',' || r == '\n' || r == '\r' }) {
			if len(line) > 32 && strings.Contains(err.Error(), line) {
				t.Fatal(err)
			}
		}
	})
}

// TestNewKeyCopiesTheSecret, so that a caller can wipe its own.
func TestNewKeyCopiesTheSecret(t *testing.T) {
	t.Parallel()
	secret := []byte(secretText)
	k, err := NewKey("one", secret, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	clear(secret)
	if string(k.secret()) != secretText {
		t.Error("the key has changed")
	}
}

func TestNewKeyRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id     string
		length int
	}{{"", 32}, {"a b", 32}, {"a|b", 32}, {"é", 32}, {strings.Repeat("a", 33), 32}, {"a", 0}, {"a", 31}, {"a", 65}} {
		if _, err := NewKey(c.id, make([]byte, c.length), time.Time{}); err == nil {
			t.Errorf("%+v", c)
		}
	}
}
