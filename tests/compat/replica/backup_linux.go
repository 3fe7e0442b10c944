package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/gormtenancy/tenancy/internal/pgserver"
)

// backUp copies the data of a running server as pg_basebackup does, which not all distributions of PostgreSQL have:
// https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
func (s *server) backUp(ctx context.Context, primary *pgserver.Server) error {
	start, stop := "pg_backup_start('standby', true)", "pg_backup_stop(false)"
	if primary.Version() < 150000 {
		start, stop = "pg_start_backup('standby', true, false)", "pg_stop_backup(false, false)"
	}
	return with(ctx, primary.DSN(), func(conn *pgx.Conn) error {
		var from, label string
		if err := conn.QueryRow(ctx, "SHOW data_directory").Scan(&from); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "SELECT "+start); err != nil {
			return err
		}
		if err := s.copyTree(from, "."); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT labelfile FROM "+stop).Scan(&label); err != nil {
			return err
		}
		// What was changed while the files were copied is in the log, as far as the backup needs it.
		if err := s.copyTree(from, "pg_wal"); err != nil {
			return err
		}
		return errors.Join(
			s.write("backup_label", label),
			s.write("standby.signal", ""),
			s.write("postgresql.auto.conf", fmt.Sprintf("primary_conninfo = '%s'\n", strings.ReplaceAll(primary.DSN(), "'", "''"))),
		)
	})
}

// contents of these directories are not copied with the others.
var leftEmpty = []string{
	"pg_wal", "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
}

// copyTree copies a part of a data directory to the same place in that of the standby.
func (s *server) copyTree(data, part string) error {
	return filepath.WalkDir(filepath.Join(data, part), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the server goes on working, and removes files
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		switch {
		case part == "." && slices.Contains(leftEmpty, filepath.Dir(name)):
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case entry.IsDir():
			return s.makeDir(name)
		case !entry.Type().IsRegular(), strings.HasPrefix(name, "postmaster."):
			return nil
		default:
			return s.copyFile(path, name)
		}
	})
}

func (s *server) makeDir(name string) error {
	path := filepath.Join(s.data, name)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return s.own(path)
}

func (s *server) copyFile(from, name string) error {
	in, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	path := filepath.Join(s.data, name)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), s.own(path))
}

func (s *server) write(name, content string) error {
	path := filepath.Join(s.data, name)
	return errors.Join(os.WriteFile(path, []byte(content), 0o600), s.own(path))
}

// own gives a file to the user that the standby runs as.
func (s *server) own(path string) error {
	if s.user == nil {
		return nil
	}
	return os.Chown(path, int(s.user.Uid), int(s.user.Gid))
}
