package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Companion is another program that runs beside the server, such as a pooler: as the user that PostgreSQL runs as, in a
// directory of its own, and for no longer than this process.
type Companion struct {
	dir     *runDir
	log     *os.File
	process *process
}

// StartCompanion writes the files, by name, into a new directory that only this user and the program's may enter, and
// starts the program there. What the program prints is kept for Log. It returns at once: the program may not be ready
// yet.
func StartCompanion(ctx context.Context, files map[string]string, program string, args ...string) (_ *Companion, err error) {
	dir, err := newRunDir(ctx)
	if err != nil {
		return nil, fmt.Errorf("pgserver: %w", err)
	}
	c := &Companion{dir: dir}
	defer func() {
		if err != nil {
			err = fmt.Errorf("pgserver: start %s: %w", program, errors.Join(err, c.Close()))
		}
	}()
	for name, content := range files {
		path := filepath.Join(dir.path, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return nil, err
		}
		if err := hand(path); err != nil {
			return nil, err
		}
	}
	if c.log, err = os.Create(filepath.Join(dir.path, "companion.log")); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	if err := disguise(cmd); err != nil {
		return nil, err
	}
	cmd.Dir = dir.path
	cmd.Stdout, cmd.Stderr = c.log, c.log
	process, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	c.process = process
	return c, nil
}

// Ended is closed when the program has ended.
func (c *Companion) Ended() <-chan struct{} { return c.process.done }

// Log is what the program has printed so far.
func (c *Companion) Log() (string, error) {
	content, err := os.ReadFile(c.log.Name())
	return string(content), err
}

// Close kills the program, waits for its end, and removes its directory. It must be called once.
func (c *Companion) Close() error {
	var errs []error
	if c.process != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		errs = append(errs, c.process.end(ctx, os.Kill))
	}
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	return errors.Join(append(errs, c.dir.remove())...)
}
