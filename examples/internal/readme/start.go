package readme

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Program is a running example.
type Program struct {
	Addr string // host and port
	Dir  string // its working directory, empty at first
	Said string // on its standard output, before it was ready

	log log
}

// Log is what the program has written to its standard error until now.
func (p *Program) Log() string { return p.log.String() }

// Start builds the program of the current folder and runs it on a free port, with these further arguments. At the
// end of the test it presses Ctrl-C, and the program must exit with 0.
func Start(t *testing.T, args ...string) *Program {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "example")
	said, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", said)

	p := &Program{Dir: t.TempDir()}
	cmd := exec.Command(binary, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Dir, cmd.Stderr = p.Dir, &p.log
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
		_, _ = io.Copy(io.Discard, stdout)
		require.NoError(t, cmd.Wait(), "ends cleanly on Ctrl-C:\n%s", &p.log)
	})

	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := lines.Text()
		if address, ok := strings.CutPrefix(line, "Serving on http://"); ok {
			p.Addr, _, _ = strings.Cut(address, " ")
		}
		if strings.HasPrefix(line, "Stop with") {
			return p
		}
		p.Said += line + "\n"
	}
	t.Fatalf("the example ended before it served:\n%s", &p.log)
	return nil
}

// log is a buffer that can be read while it is written, and that the test's output has too.
type log struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if testing.Verbose() {
		_, _ = os.Stderr.Write(b)
	}
	return l.buffer.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}
