package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What an application says about a statement goes into the records of the changes that it makes (rls.Isolation.Audits). It travels
// as the tenant does: in a setting that is local to the transaction, in the round trip of the statement, and only where something is said.

// SaidSetting holds it, as a JSON object.
const SaidSetting = "tenancy.audit"

const saidSQL = `SELECT pg_catalog.set_config('` + SaidSetting + `', $1, true)`

// lastingSaidSQL is for a CALL that may commit: what is local to a transaction would end with the first of its own.
const lastingSaidSQL = `, pg_catalog.set_config('` + SaidSetting + `', $1, false)`

// maxSaid bounds the bytes of each text.
const maxSaid = 1024

type saidKey struct{}

// said is what a context says.
type said struct {
	Actor     string `json:"actor,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Call      string `json:"call,omitempty"` // see saidOfCall
}

// WithActor returns a context that says who acts.
func WithActor(ctx context.Context, actor string) context.Context {
	s := saidIn(ctx)
	s.Actor = fitSaid(actor)
	return context.WithValue(ctx, saidKey{}, s)
}

// WithRequestID returns a context that says which request it is about.
func WithRequestID(ctx context.Context, id string) context.Context {
	s := saidIn(ctx)
	s.RequestID = fitSaid(id)
	return context.WithValue(ctx, saidKey{}, s)
}

func saidIn(ctx context.Context) said {
	s, _ := ctx.Value(saidKey{}).(said)
	return s
}

// fitSaid makes a text fit for jsonb, which has no NUL, and cuts it off.
func fitSaid(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "\uFFFD"), "\uFFFD")
	if len(text) <= maxSaid {
		return text
	}
	end := maxSaid
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

// saidOf returns the value of the setting for a statement, or nil if nothing is said. A read-only bypass changes nothing.
func saidOf(ctx context.Context, s scope) []byte { return saidAbout(ctx, s, "") }

// saidOfCall is saidOf for a CALL that may commit. The setting lasts as long as the session, which behind a pooler may be that of another
// client next, so that it names the CALL by the SHA-256 of its text: records of other statements do not take it.
func saidOfCall(ctx context.Context, s scope, sql string) []byte {
	sum := sha256.Sum256([]byte(sql))
	return saidAbout(ctx, s, hex.EncodeToString(sum[:]))
}

func saidAbout(ctx context.Context, s scope, call string) []byte {
	what := saidIn(ctx)
	if s.bypass != nil && !s.bypass.ReadOnly {
		what.Reason = fitSaid(s.bypass.Reason)
	}
	if what == (said{}) {
		return nil
	}
	what.Call = call
	text, err := json.Marshal(what)
	if err != nil { // texts can always be written
		return nil
	}
	return toASCII(text)
}

// toASCII escapes what is not ASCII in JSON, so that the text is the same in every encoding of a session.
func toASCII(text []byte) []byte {
	ascii := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			ascii = append(ascii, byte(r))
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			ascii = fmt.Appendf(ascii, `\u%04x\u%04x`, high, low)
		default:
			ascii = fmt.Appendf(ascii, `\u%04x`, r)
		}
	}
	return ascii
}
