package lint

import (
	"regexp"
	"strings"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

// piece is a statement of a text, by its offsets.
type piece struct{ from, to int }

var dollarTag = regexp.MustCompile(`^\$(?:[\pL_][\pL\pN_]*)?\$`)

// split finds the ends of statements, as psql does: semicolons outside of quotes, comments and parentheses.
func split(text string) []piece {
	var pieces []piece
	from := 0
	for i := 0; i < len(text); {
		if text[i] == ';' {
			pieces = append(pieces, piece{from, i})
			from = i + 1
		}
		i += token(text[i:])
	}
	if strings.TrimSpace(text[from:]) != "" {
		pieces = append(pieces, piece{from, len(text)})
	}
	return pieces
}

// token returns the length of what must not be cut: a string, a comment, or one byte.
func token(s string) int {
	upTo := func(end string, after int) int {
		if i := strings.Index(s[after:], end); i >= 0 {
			return after + i + len(end)
		}
		return len(s)
	}
	switch {
	case s[0] == '\'':
		return upTo("'", 1)
	case (s[0] == 'e' || s[0] == 'E') && len(s) > 1 && s[1] == '\'':
		return escaped(s)
	case s[0] == '"':
		return upTo(`"`, 1)
	case strings.HasPrefix(s, "--"):
		return upTo("\n", 2)
	case strings.HasPrefix(s, "/*"):
		return sqltext.CommentLen(s)
	case s[0] == '$':
		if tag := dollarTag.FindString(s); tag != "" {
			return upTo(tag, len(tag))
		}
	case isWord(s[0]): // so that the $ of a$b$ begins no string, nor the e of like'…' an escaped one
		n := 1
		for n < len(s) && (isWord(s[n]) || s[n] == '$') {
			n++
		}
		return n
	}
	return 1
}

func isWord(c byte) bool {
	return c == '_' || c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
}

// escaped is the length of an E'…' string.
func escaped(s string) int {
	for i := 2; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\'':
			return i + 1
		}
	}
	return len(s)
}

// skipSpace returns the offset of the first byte of a statement that is neither space nor comment.
func skipSpace(text string, from, to int) int {
	for from < to {
		s := text[from:]
		switch {
		case strings.ContainsRune(" \t\r\n;", rune(s[0])):
			from++
		case strings.HasPrefix(s, "--"), strings.HasPrefix(s, "/*"):
			from += token(s)
		default:
			return from
		}
	}
	return to
}
