package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// room is how many bytes the server's disk has for tables, a third of what is free. It returns an error where that can't
// be known.
func (b *bench) room(ctx context.Context) (int64, error) {
	unknown := errors.New("how much room the server's disk has can't be seen from here")
	conn, err := pgx.Connect(ctx, b.server.DSN())
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	var dir string
	var port int
	if err := conn.QueryRow(ctx, "SELECT current_setting('data_directory'), current_setting('port')::int").Scan(&dir, &port); err != nil {
		return 0, unknown
	}
	// A container has a directory of the same name, perhaps; but not with a server at the same port.
	pid, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if lines := strings.Split(string(pid), "\n"); err != nil || len(lines) < 4 || lines[3] != strconv.Itoa(port) {
		return 0, unknown
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return 0, unknown
	}
	const share = 3
	return int64(disk.Bavail) * disk.Bsize / share, nil
}
