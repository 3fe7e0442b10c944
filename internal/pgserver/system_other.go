//go:build !linux

package pgserver

import "syscall"

// dieWithParent does nothing here: a server whose parent was killed runs until the next Start stops it.
func dieWithParent(*syscall.SysProcAttr) {}

// memory is empty: only Linux has a file system in memory that every user may write to.
func memory() string { return "" }

// room checks nothing here.
func room(string) error { return nil }
