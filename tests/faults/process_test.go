package faults

import (
	"bufio"
	"log/slog"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/gormtenancy/tenancy"
)

// victimDSN is set for a child process, which is killed in the middle of a transaction.
const victimDSN = "TENANCY_TEST_VICTIM_DSN"

// TestProcessKilledInTransaction kills an application that has written, and holds locks, and has not committed.
func TestProcessKilledInTransaction(t *testing.T) {
	t.Parallel()
	f := newFixture(t, way{})
	for range 3 {
		mark := f.mark()
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), victimDSN+"="+f.App.DSN, "TENANCY_TEST_VICTIM_MARK="+mark)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			_ = child.Process.Kill()
		}
		require.NoError(t, err)
		require.Equal(t, "written\n", line)
		require.NoError(t, child.Process.Kill())
		require.Error(t, child.Wait(), "it was killed")

		// The backend notices that its client is gone, and the row that it had locked is free.
		f.db.WithContext(as(acme)).Exec(`SELECT FROM notes WHERE body = 'seed 1' FOR UPDATE`)
		f.quiet(t)
		require.Zero(t, f.applied(t, acme, mark))
		book.note("process killed in a transaction", undone)
		f.recovered(t, true)
	}
}

// die is the child: it writes in a transaction, says so, and waits for its end.
func die(dsn, mark string) error {
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	if err := db.Use(tenancy.New(tenancy.Config{Logger: slog.New(slog.DiscardHandler)})); err != nil {
		return err
	}
	tx := db.WithContext(as(acme)).Begin()
	if err := tx.Create(&Note{Body: mark}).Error; err != nil {
		return err
	}
	if err := tx.Exec(`SELECT FROM notes WHERE body = 'seed 1' FOR UPDATE`).Error; err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("written\n"); err != nil {
		return err
	}
	select {}
}
