package check

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/gormtenancy/tenancy/rls/internal/catalog"
)

// routine is a function of the database, of which the application may call none or which calls others.
type routine struct {
	OID    int64
	Name   string // for people, with the schema
	Plain  string // without it
	Source string // unless it is parsed already
	Reads  []string
	Calls  []int64 // of a parsed body
}

var routinesQuery = `
SELECT json_agg(json_build_object(
	'oid',    p.oid::bigint,
	'name',   n.nspname || '.' || p.proname,
	'plain',  p.proname,
	'source', p.prosrc,
	'calls',  ` + callsOf + `,
	'reads',  ` + readsOf + `))
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname NOT IN ('c', 'internal')
	AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')`

var (
	// word is a name in the source of a function, quoted or not.
	word = regexp.MustCompile(`"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*`)

	// dynamic runs SQL that a function puts together, or is given.
	dynamic = regexp.MustCompile(`(?i)\b(?:execute|dblink|query_to_xml|cursor_to_xml|spi_exec\w*|spi_query\w*)\b`)
)

// sources knows what functions can reach.
type sources struct {
	relations map[string]string // names of tenant tables, and views that read them, to what people call them
	byName    map[string][]*routine
	byOID     map[int64]*routine
}

// deed is what a function does that depends on whose rights it has.
type deed struct {
	reads   string // a tenant table, or a view that reads one
	dynamic bool   // it runs SQL that it puts together
	via     string // the function it calls for it
}

func (c *checker) sources() sources {
	s := sources{relations: map[string]string{}, byName: map[string][]*routine{}, byOID: map[int64]*routine{}}
	for _, v := range c.facts.Readers {
		s.relations[v.Table] = v.String()
	}
	for _, t := range c.facts.Tables {
		s.relations[t.Table] = t.String()
	}
	for _, t := range c.facts.ForeignTables {
		s.relations[t.Table] = t.String()
	}
	for n := range c.facts.Routines {
		r := &c.facts.Routines[n]
		s.byName[r.Plain], s.byOID[r.OID] = append(s.byName[r.Plain], r), r
	}
	return s
}

// of returns sources that know of no other relations than these.
func (s sources) of(views []catalog.Relation) sources {
	only := sources{relations: map[string]string{}, byName: map[string][]*routine{}, byOID: map[int64]*routine{}}
	for _, v := range views {
		only.relations[v.Table] = v.String()
	}
	for oid, r := range s.byOID {
		unread := *r
		unread.Reads = nil
		only.byName[r.Plain], only.byOID[oid] = append(only.byName[r.Plain], &unread), &unread
	}
	return only
}

// lookup returns the key of a map that a word of SQL means, if it is there.
func lookup[V any](m map[string]V, name string) (V, bool) {
	if name[0] == '"' {
		name = unquoted(name)
	} else if _, exact := m[name]; !exact {
		name = strings.ToLower(name)
	}
	v, ok := m[name]
	return v, ok
}

// deeds finds out what a function does, itself and by those it calls. It errs on the side of suspicion: a name in a comment
// counts.
func (s sources) deeds(source string, calls []int64) deed {
	var (
		found deed
		seen  = map[*routine]bool{}
		visit func(source string, calls []int64, through string)
	)
	visit = func(source string, calls []int64, through string) {
		if dynamic.MatchString(source) && !found.dynamic {
			found.dynamic = true
			if found.reads == "" {
				found.via = through
			}
		}
		var called []*routine
		for _, name := range word.FindAllString(source, -1) {
			if relation, ok := lookup(s.relations, name); ok && found.reads == "" {
				found.reads, found.via = relation, through
			}
			if routines, ok := lookup(s.byName, name); ok {
				called = append(called, routines...)
			}
		}
		for _, oid := range calls {
			if r := s.byOID[oid]; r != nil {
				called = append(called, r)
			}
		}
		for _, r := range called {
			if seen[r] {
				continue
			}
			seen[r] = true
			if len(r.Reads) > 0 && found.reads == "" {
				found.reads, found.via = r.Reads[0], r.Name
			}
			visit(r.Source, r.Calls, r.Name)
		}
	}
	visit(source, calls, "")
	return found
}

// through says by which function it is done.
func (d deed) through() string {
	if d.via == "" {
		return ""
	}
	return fmt.Sprintf(" through %s", d.via)
}
