package check

import (
	"fmt"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// server is the PostgreSQL that runs the database.
type server struct{ version int } // as in server_version_num

func (s server) String() string { return "server" }

// fixed are the first minor releases without an error, by major release. A release before the first of them has the error,
// and one after the last has not.
type fixed map[int]int

// has reports whether the server has the error.
func (f fixed) has(s server) bool {
	major, minor := s.version/sqltext.Major, s.version%sqltext.Major
	first, listed := f[major]
	if listed {
		return minor < first
	}
	return major < sqltext.PostgreSQL14/sqltext.Major
}

// upgrade says what to do.
func (f fixed) upgrade(_ *checker, s server) string {
	major, minor := s.version/sqltext.Major, s.version%sqltext.Major
	if first, listed := f[major]; listed {
		return fmt.Sprintf("upgrade PostgreSQL %d.%d to %d.%d or later", major, minor, major, first)
	}
	return fmt.Sprintf("upgrade PostgreSQL %d to a release that is maintained", major)
}

// The releases are those of https://www.postgresql.org/support/security/.
var serverRules = []rule[server]{
	cveRule(ServerCVE202410976, High, fixed{14: 14, 15: 9, 16: 5, 17: 1},
		"A plan made for one role can be used for another if a subquery, WITH or view reads the table (CVE-2024-10976), so that "+
			"a tenant gets rows the admin role may see: %s."),
	cveRule(ServerCVE20232455, High, fixed{14: 8, 15: 3},
		"A plan made for one role can be used for another if a function is inlined in it (CVE-2023-2455), so that a tenant gets "+
			"rows the admin role may see: %s."),
	cveRule(ServerCVE20258713, Low, fixed{14: 19, 15: 14, 16: 10, 17: 6},
		"Statistics of the optimizer show a tenant values sampled from the rows of others, through operators that leak what they "+
			"compare (CVE-2025-8713): %s."),
}

func cveRule(code Code, severity Severity, fixed fixed, problem string) rule[server] {
	return rule[server]{
		code: code, severity: severity, problem: problem,
		found:  func(_ *checker, s server) bool { return fixed.has(s) },
		detail: fixed.upgrade,
	}
}
