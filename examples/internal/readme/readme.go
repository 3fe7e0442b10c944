// Package readme checks that an example does what its README says: it runs the commands there, and compares.
package readme

import (
	"bytes"
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Check runs, in one shell and in the program's folder, every command of the blocks marked `console` in the README, which
// begin with "$ ", and compares what each prints with what follows it there. The README has the program on port 8080. A "…"
// stands for one or more characters of the line.
//
// The lines of blocks marked `log` must be found in the program's log, in this order.
func (p *Program) Check(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	commands := parse(string(text))
	require.NotEmpty(t, commands, "commands in %s", file)
	for i, printed := range run(t, commands, p.Dir, p.Addr) {
		c := commands[i]
		require.Regexp(t, `\A`+pattern(c.prints)+`\z`, clean(printed), "$ %s", c.line)
	}
	rest := p.Log()
	for _, line := range logLines(string(text)) {
		at := regexp.MustCompile(pattern(line)).FindStringIndex(rest)
		require.NotNil(t, at, "in the log, after the lines before it: %s\n%s", line, rest)
		rest = rest[at[1]:]
	}
}

// command is a line for the shell, and what it prints.
type command struct{ line, prints string }

var block = regexp.MustCompile("(?ms)^```(console|log)\n(.*?)^```$")

// parse finds the commands. A line that ends with a backslash goes on in the next.
func parse(text string) (commands []command) {
	for _, found := range block.FindAllStringSubmatch(text, -1) {
		if found[1] != "console" {
			continue
		}
		unfinished := false
		for line := range strings.Lines(found[2]) {
			if start, ok := strings.CutPrefix(line, "$ "); ok {
				commands = append(commands, command{})
				line, unfinished = start, true
			} else if len(commands) == 0 {
				continue
			}
			last := &commands[len(commands)-1]
			if unfinished {
				last.line += line
				unfinished = strings.HasSuffix(line, "\\\n")
			} else {
				last.prints += line
			}
		}
	}
	return commands
}

func logLines(text string) (lines []string) {
	for _, found := range block.FindAllStringSubmatch(text, -1) {
		if found[1] == "log" {
			lines = append(lines, strings.Split(strings.TrimSpace(found[2]), "\n")...)
		}
	}
	return lines
}

// run returns what each of the commands prints.
func run(t *testing.T, commands []command, dir, addr string) []string {
	t.Helper()
	for _, needed := range []string{"sh", "curl"} {
		_, err := exec.LookPath(needed)
		require.NoError(t, err, "the commands of the README need %s", needed)
	}
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	end := rand.Text()
	var script strings.Builder
	for _, c := range commands {
		script.WriteString(strings.ReplaceAll(c.line, ":8080", ":"+port) + "\necho " + end + "\n")
	}
	shell := exec.CommandContext(t.Context(), "sh")
	shell.Dir = dir
	shell.Env = append(os.Environ(), "NO_PROXY=*", "no_proxy=*")
	shell.Stdin = strings.NewReader(script.String())
	var printed bytes.Buffer
	shell.Stdout, shell.Stderr = &printed, &printed
	require.NoError(t, shell.Run(), "%s", &printed)
	parts := strings.Split(strings.ReplaceAll(printed.String(), ":"+port, ":8080"), end+"\n")
	require.Len(t, parts, len(commands)+1, "%s", &printed)
	return parts[:len(commands)]
}

func pattern(expected string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(clean(expected)), "…", ".+")
}

var lineEnd = regexp.MustCompile(`[ \t\r]+(\n|$)`)

// clean removes white space at the ends of lines.
func clean(s string) string { return strings.Trim(lineEnd.ReplaceAllString(s, "$1"), "\n") }
