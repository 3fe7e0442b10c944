package lint

import (
	"regexp"
	"slices"
	"strings"
)

// session follows which role the next statements run as.
func (l *linter) session(s statement) {
	switch s.kind {
	case "VariableSetStmt":
		value, local := "", s.node.flag("is_local")
		if s.node.str("kind") == "VAR_SET_VALUE" {
			for _, arg := range s.node.list("args") {
				value = arg.str("A_Const", "sval", "sval")
			}
		}
		l.set(s.node.str("name"), value, local)
	case "SelectStmt":
		walk(s.node, "FuncCall", func(n node) {
			args := n.list("args")
			if !slices.Contains(n.strings("funcname"), "set_config") || len(args) < 3 {
				return
			}
			l.set(args[0].str("A_Const", "sval", "sval"), args[1].str("A_Const", "sval", "sval"), args[2].flag("A_Const", "boolval", "boolval"))
		})
	case "TransactionStmt":
		kind := s.node.str("kind")
		if kind == "TRANS_STMT_BEGIN" || kind == "TRANS_STMT_START" {
			l.block = true
			return
		}
		if kind == "TRANS_STMT_COMMIT" || kind == "TRANS_STMT_ROLLBACK" {
			l.block = false
			if l.local {
				l.reaches, l.open, l.local = "", false, false
			}
		}
	}
}

func (l *linter) set(name, value string, local bool) {
	if local && l.script.noTransaction && !l.block {
		return // it ends with its own statement
	}
	switch name {
	case "role", "session_authorization":
		l.reaches, l.local = "", local
		if value != "none" && value != "" && value != l.options.AppRole && (l.options.AdminRole == "" || value == l.options.AdminRole) {
			l.reaches = value
		}
	case "row_security":
		l.open, l.local = value == "off", local
	}
}

// touches are the words for a table that a statement uses while a policy hides its rows.
var touches = map[string]string{
	"UpdateStmt": "UPDATE", "DeleteStmt": "DELETE", "MergeStmt": "MERGE", "InsertStmt": "INSERT … SELECT", "CreateTableAsStmt": "CREATE … AS",
	"RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW", "CopyStmt": "COPY", "SelectStmt": "SELECT", "DoStmt": "a DO block",
}

// data reports a statement that works on rows which policies hide from the owner: it touches none, and reports success.
func (l *linter) data(s statement) {
	if l.reaches != "" || l.open {
		return
	}
	var hidden []string
	for _, name := range l.rowsOf(s) {
		if l.hidesRows(name) {
			hidden = append(hidden, strings.TrimPrefix(name, "public."))
		}
	}
	if len(hidden) > 0 {
		l.find(l.at(s), DataWithoutRole, hidden[0], "%s of %s as the owner, which FORCE binds: the policies hide the rows, so it does nothing and "+
			"reports success. Begin with the lines that \"tenancy sql --data\" prints", touches[s.kind], strings.Join(hidden, ", "))
	}
}

// rowsOf returns the tables whose existing rows a statement reads or writes, where it makes something of them.
func (l *linter) rowsOf(s statement) []string {
	switch s.kind {
	case "UpdateStmt", "DeleteStmt", "MergeStmt":
		return l.tablesIn(s.node)
	case "InsertStmt":
		return l.tablesIn(map[string]any{"select": s.node["selectStmt"], "with": s.node["withClause"]})
	case "CreateTableAsStmt":
		return l.tablesIn(s.node["query"])
	case "RefreshMatViewStmt":
		if name := l.nameOf(s.node.child("relation")); l.views[name] != nil {
			return l.views[name]
		}
	case "CopyStmt":
		if !s.node.flag("is_from") {
			return l.tablesIn(s.node)
		}
	case "SelectStmt":
		writes := s.node["intoClause"] != nil
		for _, kind := range []string{"UpdateStmt", "DeleteStmt", "InsertStmt", "MergeStmt"} {
			walk(s.node["withClause"], kind, func(node) { writes = true })
		}
		if writes {
			return l.tablesIn(s.node)
		}
	case "DoStmt":
		return l.writtenIn(bodyOf(s.node))
	}
	return nil
}

// writes matches the statements of a body in another language that change rows, and the name of the table.
var writes = regexp.MustCompile(`(?i)\b(?:update|delete\s+from|merge\s+into)\s+(?:only\s+)?((?:"[^"]+"|[\pL_][\pL\pN_$]*)(?:\.(?:"[^"]+"|[\pL_][\pL\pN_$]*))?)`)

// writtenIn returns the tables that a body writes, by its text.
func (l *linter) writtenIn(body string) []string {
	var names []string
	for _, m := range writes.FindAllStringSubmatch(body, -1) {
		parts := strings.Split(m[1], ".")
		for i, part := range parts {
			if strings.HasPrefix(part, `"`) {
				parts[i] = strings.Trim(part, `"`)
			} else {
				parts[i] = strings.ToLower(part)
			}
		}
		names = append(names, l.resolveParts(parts))
	}
	return names
}

// bodyOf returns the text of a DO block or a function.
func bodyOf(n node) string {
	var body strings.Builder
	for _, field := range []string{"args", "options"} {
		for _, option := range n.list(field) {
			if option.str("DefElem", "defname") == "as" {
				walk(option, "String", func(s node) { body.WriteString(s.str("sval") + "\n") })
			}
		}
	}
	return body.String()
}
