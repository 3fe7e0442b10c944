//go:build !linux

package pgserver

import "syscall"

// dieWithParent does nothing here: a server whose parent was killed goes on until the next Start sweeps it.
func dieWithParent(*syscall.SysProcAttr) {}

// memory is empty: only Linux has a file system in memory that every user may write to.
func memory() string { return "" }

// room leaves it to PostgreSQL to find out.
func room(string) error { return nil }
