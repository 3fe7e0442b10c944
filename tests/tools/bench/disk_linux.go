package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// room is how many bytes the server's disk has for tables: a part of what is free. It returns an error where that can't
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
	free := int64(disk.Bavail) * disk.Bsize
	if disk.Type == tmpfs {
		free = min(free, availableMemory())
	}
	return free / parts, nil
}

const (
	tmpfs = 0x01021994 // a file system in memory (statfs(2))
	parts = 3          // of what is free, one in so many
)

// availableMemory is in bytes, 0 if it is not known.
func availableMemory() int64 {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	return 0
}
