package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says how bad a finding is. The zero value is the mildest hole.
type Severity int

// Info is the severity of a note, which is no hole: see Report.Notes.
const Info Severity = -1

// The severities.
const (
	Low      Severity = iota // untidy, or a way to lose isolation later
	Medium                   // tells tenants something about others, breaks or slows down their work
	High                     // lets one tenant read or change rows of another under some condition
	Critical                 // lets every tenant read or change the rows of all
)

// String returns the severity in lower case.
func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Low:
		return "low"
	case Medium:
		return "medium"
	case High:
		return "high"
	case Critical:
		return "critical"
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// Code names a kind of finding. Codes are stable: allow-lists hold them.
type Code string

// Finding is a hole in a database.
type Finding struct {
	Code     Code
	Severity Severity
	Object   string // such as "public.invoices" or "policy everyone on public.invoices"; without quotes
	Problem  string // what a hostile tenant could do, in one sentence
	// Fix is the SQL that fixes it, complete, for the role that owns the object. Where a superuser is needed, it begins with
	// a comment that says so. It is empty where no SQL can help: Problem then says what to do.
	Fix string
}

// String returns the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s: %s: %s", f.Severity, f.Code, f.Object, f.Problem)
}

// Allowed is a finding that the allow-list tolerates, and why.
type Allowed struct {
	Finding
	Reason string // as given to Allow
}

// Report is what Run found.
type Report struct {
	Findings   []Finding // the worst first
	Allowed    []Allowed // what Allow left out of Findings
	Role       string    // the role that was taken for the application's
	Tables     int       // tenant tables that were looked at; with none, there was nothing to check
	NotChecked []string  // what could not be looked at, each in one sentence
	Notes      []Finding // what is no hole, but may surprise: neither OK nor Err nor SQL looks at them
}

// OK reports whether there are no findings.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Err returns nil if there are no findings, and otherwise an error that lists their codes and objects. It holds no stored
// values and no SQL.
func (r Report) Err() error {
	if r.OK() {
		return nil
	}
	list := make([]string, len(r.Findings))
	for n, f := range r.Findings {
		list[n] = fmt.Sprintf("%s (%s)", f.Code, f.Object)
	}
	noun := "findings"
	if len(list) == 1 {
		noun = "finding"
	}
	return fmt.Errorf("tenancy: %d %s: %s", len(list), noun, strings.Join(list, ", "))
}

// SQL returns the fixes of all findings as one script. Its order is the one in which they work: a foreign key is replaced
// before the unique constraint it needed, and policies exist before row level security is switched on. Where several
// findings ask for the same, it is done again, which does no harm. Run it in one transaction, after reading it.
func (r Report) SQL() string {
	ordered := slices.Clone(r.Findings)
	slices.SortStableFunc(ordered, func(a, b Finding) int { return cmp.Compare(ranks()[a.Code], ranks()[b.Code]) })
	var script strings.Builder
	for _, f := range ordered {
		if f.Fix != "" {
			fmt.Fprintf(&script, "-- %s: %s\n%s\n\n", f.Code, oneLine(f.Object), f.Fix)
		}
	}
	return strings.TrimSuffix(script.String(), "\n")
}

// oneLine keeps a name from ending the comment it stands in.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' {
			return ' '
		}
		return r
	}, s)
}
