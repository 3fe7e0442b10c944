package plan

import "strings"

// Lock is the strongest lock that a statement takes on its table, as PostgreSQL's documentation names it ("Explicit Locking", ALTER TABLE,
// CREATE INDEX), and how much of the table it reads or writes.
type Lock struct {
	Mode     string // such as ACCESS EXCLUSIVE
	Reads    bool   // all rows
	Rewrites bool   // all rows
}

// The modes.
const (
	AccessShare          = "ACCESS SHARE"
	RowExclusive         = "ROW EXCLUSIVE"
	ShareUpdateExclusive = "SHARE UPDATE EXCLUSIVE"
	Share                = "SHARE"
	ShareRowExclusive    = "SHARE ROW EXCLUSIVE"
	AccessExclusive      = "ACCESS EXCLUSIVE"
)

// locks are those of the statements that begin, and go on, with these words. The first that fits counts.
var locks = []struct {
	begin, holds string
	Lock
}{
	{"DO ", "", Lock{Mode: AccessShare}}, // of what is not a tenant table
	{"GRANT ", "", Lock{Mode: AccessShare}},
	{"CREATE TRIGGER ", "", Lock{Mode: ShareRowExclusive}},
	{"CREATE OR REPLACE FUNCTION ", "", Lock{Mode: AccessShare}},
	{"ALTER FUNCTION ", "", Lock{Mode: AccessShare}},
	{"ALTER TABLE ", " ENABLE ALWAYS TRIGGER ", Lock{Mode: ShareRowExclusive}},
	{"REVOKE ", "", Lock{Mode: AccessShare}},
	{"UPDATE ", "", Lock{Mode: RowExclusive, Reads: true}},
	{"WITH RECURSIVE ", "", Lock{Mode: RowExclusive, Reads: true}},
	{"COMMENT ", "", Lock{Mode: ShareUpdateExclusive}},
	{"ALTER INDEX ", "", Lock{Mode: ShareUpdateExclusive}},
	{"DROP INDEX CONCURRENTLY", "", Lock{Mode: ShareUpdateExclusive}},
	{"CREATE", " INDEX CONCURRENTLY", Lock{Mode: ShareUpdateExclusive, Reads: true}},
	{"CREATE", " INDEX ", Lock{Mode: Share, Reads: true}},
	{"ALTER TABLE ", " VALIDATE CONSTRAINT ", Lock{Mode: ShareUpdateExclusive, Reads: true}},
	{"ALTER TABLE ", " FOREIGN KEY ", Lock{Mode: ShareRowExclusive, Reads: true}},
	{"ALTER TABLE ", " SET NOT NULL", Lock{Mode: AccessExclusive, Reads: true}},
	{"ALTER TABLE ", " CHECK (", Lock{Mode: AccessExclusive, Reads: true}},
	{"ALTER TABLE ", " UNIQUE USING INDEX ", Lock{Mode: AccessExclusive}},
	{"ALTER TABLE ", " UNIQUE ", Lock{Mode: AccessExclusive, Reads: true}},
	{"ALTER TABLE ", " PRIMARY KEY USING INDEX ", Lock{Mode: AccessExclusive}},
	{"ALTER TABLE ", " PRIMARY KEY ", Lock{Mode: AccessExclusive, Reads: true}},
	{"ALTER TABLE ", " TYPE ", Lock{Mode: AccessExclusive, Reads: true, Rewrites: true}},
}

// LockOf returns the lock of a statement of a plan, or of GORM's migrator: one that is not known counts as the strongest.
func LockOf(sql string) Lock {
	for _, l := range locks {
		if !strings.HasPrefix(sql, l.begin) || !strings.Contains(sql, l.holds) {
			continue
		}
		if strings.HasSuffix(sql, " NOT VALID") {
			l.Reads = false
		}
		return l.Lock
	}
	return Lock{Mode: AccessExclusive}
}

// Lock returns the lock of the step. SET NOT NULL reads nothing where a constraint that was validated before says the same.
func (s Step) Lock() Lock {
	lock := LockOf(s.SQL)
	if s.Proved {
		lock.Reads = false
	}
	return lock
}
