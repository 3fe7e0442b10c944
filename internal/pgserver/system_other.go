//go:build !linux

package pgserver

import "syscall"

// dieWithParent does nothing here: a server whose parent was killed goes on until the next Start sweeps it.
func dieWithParent(*syscall.SysProcAttr) {}
