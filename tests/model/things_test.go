package model

import (
	"maps"
	"strings"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/gormtenancy/tenancy"
)

// things are what a holder of a connection has made in its session for one tenant, and finds again until its transaction ends,
// it goes on for another tenant, or it gives the connection back.
type things struct {
	report   bool              // a temporary table of its own name
	shadow   notes             // the rows of a temporary relation of the table's name, or nil
	settings map[string]string // those that are not as in a clean session
	role     string            // that it has taken, or ""
}

func (th things) clone() things {
	th.settings = maps.Clone(th.settings)
	return th
}

func (th *things) set(name, value string) {
	if th.settings == nil {
		th.settings = map[string]string{}
	}
	th.settings[name] = value
}

// setting returns the value of a setting.
func (th *things) setting(name string) string {
	if value, ok := th.settings[name]; ok {
		return value
	}
	return cleanSettings[name]
}

// secret is a setting of the application's own.
const secret = "my.secret"

// cleanSettings are the settings that are compared, as they are in a session that was not used.
var cleanSettings = map[string]string{
	"search_path": `"$user", public`, "row_security": "on", "DateStyle": "ISO, MDY", "client_encoding": "UTF8",
	"statement_timeout": "0", secret: "",
}

// settingChanges are values for settings, and how they read then.
var settingChanges = []struct{ name, value, reads string }{
	{"search_path", "public, pg_catalog", "public, pg_catalog"},
	{"search_path", "pg_catalog", "pg_catalog"}, // hides the table
	{"row_security", "off", "off"},              // has PostgreSQL refuse to read the table
	{"DateStyle", "German", "German, DMY"},
	{"client_encoding", "LATIN1", "LATIN1"}, // in which one of the tenants' ids is another
	{"statement_timeout", "1h", "1h"},
	{secret, "told", "told"},
	{secret, "whispered", "whispered"},
}

// verdict is what must become of a statement.
type verdict int

const (
	works   verdict = iota
	refused         // before it is sent, or by a transaction that takes no more: it changes nothing
	fails           // in PostgreSQL, which aborts a transaction
	either          // works, or fails because what hides the table is not isolated
)

// reads says what must become of a statement that reads the table.
func (s session) reads() verdict {
	switch {
	case s.refused():
		return refused
	case s.things.shadow != nil:
		return either
	case s.things.setting("row_security") == "off", s.things.setting("search_path") == "pg_catalog":
		return fails
	default:
		return works
	}
}

// writes says what must become of a statement that writes the table.
func (s session) writes() verdict {
	if want := s.reads(); want != works || s.things.role == "" {
		return want
	}
	return fails
}

// refused reports whether every statement of the client must be.
func (s session) refused() bool {
	const utf8 = "UTF8"
	return s.in != nil && (s.in.aborted || s.in.over) || s.things.setting("client_encoding") != utf8 && !isASCII(s.tenant)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// judge compares how a statement ended with what must become of it, notes what follows for its transaction, and reports
// whether it has worked.
func (s session) judge(t *rapid.T, want verdict, err error, what string) bool {
	if err != nil && strings.Contains(err.Error(), "client_encoding=UTF8") && s.things.setting("client_encoding") != "UTF8" {
		return false // pgx writes no argument into text of another encoding, and has sent nothing
	}
	switch want {
	case refused:
		require.Error(t, err, what)
		return false
	case fails:
		require.Error(t, err, what)
		s.failed()
		return false
	case either:
		if err != nil {
			if s.things.setting("row_security") == "on" {
				require.ErrorIs(t, err, tenancy.ErrNotIsolated, what)
			}
			if s.in != nil && s.db.Exec(`SELECT 1`).Error != nil {
				s.failed()
			}
			return false
		}
	}
	require.NoError(t, err, what)
	return true
}

// compare compares the rows that a client has read with those that it may see. Of a shadow PostgreSQL does not tell statements
// that were prepared before.
func (m *machine) compare(t *rapid.T, s session, found []Note, what string) {
	got := toNotes(t, s.tenant, found)
	if s.things.shadow == nil || !maps.Equal(got, s.things.shadow) {
		require.Equal(t, m.sees(s), got, what)
	}
}
