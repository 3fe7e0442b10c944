package sqltext

// CommentLen returns the length in bytes of the comment of the form /* … */ that a text begins with, or of the text if the comment has no
// end. Comments can be nested in PostgreSQL
// (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-COMMENTS).
func CommentLen(sql string) int {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(sql)
}
