package lint

import (
	"encoding/json"
	"strings"

	"github.com/wasilibs/go-pgquery/parser"
)

// node is a node of PostgreSQL's parse tree, as libpg_query writes it in JSON.
type node map[string]any

// statement is a statement of a script.
type statement struct {
	kind     string // the node's type, such as CreateStmt
	node     node
	at       int    // the offset of its first word
	from, to int    // with the space and the comments before it
	text     string // without them
}

// parse returns the statements of a text, and the offsets of those that cannot be read.
func parse(text string) (statements []statement, failed []int) {
	text, failed = blankForeign(text)
	if found, err := parseText(text, 0); err == nil {
		return found, failed
	}
	// One statement that cannot be read must not hide the others.
	for _, p := range split(text) {
		at := skipSpace(text, p.from, p.to)
		if at >= p.to {
			continue
		}
		found, err := parseText(text[p.from:p.to], p.from)
		if err != nil {
			failed = append(failed, at)
			continue
		}
		statements = append(statements, found...)
	}
	return statements, failed
}

func parseText(text string, offset int) ([]statement, error) {
	tree, err := parser.ParseToJSON(text)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Stmts []struct {
			Stmt     map[string]node `json:"stmt"`
			Location int             `json:"stmt_location"`
			Len      int             `json:"stmt_len"`
		} `json:"stmts"`
	}
	if err := json.Unmarshal([]byte(tree), &parsed); err != nil {
		return nil, err
	}
	var statements []statement
	for _, raw := range parsed.Stmts {
		to := raw.Location + raw.Len
		if raw.Len == 0 {
			to = len(text)
		}
		at := skipSpace(text, raw.Location, to)
		for kind, n := range raw.Stmt {
			statements = append(statements, statement{kind, n, offset + at, offset + raw.Location, offset + to, text[at:to]})
		}
	}
	return statements, nil
}

// blankForeign blanks the commands of psql, and the data that follow COPY … FROM stdin. It returns where the commands are.
func blankForeign(text string) (string, []int) {
	var commands []int
	var out strings.Builder
	inString, inData, offset := 0, false, 0
	for _, line := range strings.SplitAfter(text, "\n") {
		switch {
		case inData:
			out.WriteString(blank(line))
			inData = strings.TrimRight(line, "\r\n") != `\.`
		case inString <= offset && psqlCommand.MatchString(line):
			commands = append(commands, offset+strings.Index(line, `\`))
			out.WriteString(blank(line))
		default:
			out.WriteString(line)
			for inString = max(inString, offset); inString < offset+len(line); {
				inString += token(text[inString:])
			}
			inData = inString <= offset+len(line) && copyFromStdin.MatchString(line)
		}
		offset += len(line)
	}
	return out.String(), commands
}

// get follows names through a tree. It is nil where there is nothing.
func (n node) get(names ...string) any {
	var v any = map[string]any(n)
	for _, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (n node) str(names ...string) string {
	s, _ := n.get(names...).(string)
	return s
}

func (n node) flag(names ...string) bool {
	b, _ := n.get(names...).(bool)
	return b
}

func (n node) child(names ...string) node {
	m, _ := n.get(names...).(map[string]any)
	return m
}

// list returns the elements of a list, each with its type.
func (n node) list(names ...string) []node {
	elements, _ := n.get(names...).([]any)
	var list []node
	for _, e := range elements {
		if m, ok := e.(map[string]any); ok {
			list = append(list, m)
		}
	}
	return list
}

// strings returns the texts of a list of names.
func (n node) strings(names ...string) []string {
	var all []string
	for _, e := range n.list(names...) {
		all = append(all, e.str("String", "sval"))
	}
	return all
}

// walk calls do for each node of a type in a tree.
func walk(v any, kind string, do func(node)) {
	switch v := v.(type) {
	case node:
		walk(map[string]any(v), kind, do)
	case []any:
		for _, e := range v {
			walk(e, kind, do)
		}
	case map[string]any:
		for name, e := range v {
			if m, ok := e.(map[string]any); ok && name == kind {
				do(m)
			}
			walk(e, kind, do)
		}
	}
}
