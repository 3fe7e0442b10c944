package readme

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const text = "Try:\n\n```console\n$ A=7\n$ echo $A \\\n    'b  c'\n7 b  c\n\n$ printf 'one\\ntwo 1234'\none\ntwo …\n```\n" +
	"```go\n$ no\n```\n```log\n… statements=2 …\n```\n"

func TestParse(t *testing.T) {
	require.Equal(t, []command{
		{"A=7\n", ""},
		{"echo $A \\\n    'b  c'\n", "7 b  c\n\n"},
		{"printf 'one\\ntwo 1234'\n", "one\ntwo …\n"},
	}, parse(text))
	require.Equal(t, []string{"… statements=2 …"}, logLines(text))
}

func TestRunKeepsTheShell(t *testing.T) {
	require.Equal(t, []string{"", "7 b  c\n", "one\ntwo 1234"}, run(t, parse(text), t.TempDir(), "127.0.0.1:9"))
}

func TestRunServesAnotherPort(t *testing.T) {
	require.Equal(t, []string{"http://x.localhost:8080\n", "5\n"},
		run(t, []command{{line: "echo http://x.localhost:8080"}, {line: "echo :8080 | wc -c | tr -d ' '"}}, t.TempDir(), "127.0.0.1:999"))
}

func TestPattern(t *testing.T) {
	require.Regexp(t, `\A`+pattern(`{"id":"…","n":[1]}`)+`\z`, clean("{\"id\":\"x\",\"n\":[1]}  \n\n"))
	for _, other := range []string{`{"id":"","n":[1]}`, `{"id":"x","n":1}`, "{\"id\":\"x\n\",\"n\":[1]}", `{"id":"x","n":[1]}.`} {
		require.NotRegexp(t, `\A`+pattern(`{"id":"…","n":[1]}`)+`\z`, clean(other))
	}
}
