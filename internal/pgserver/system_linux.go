package pgserver

import (
	"fmt"
	"syscall"
)

// dieWithParent makes the kernel stop PostgreSQL when this process ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// memory is a file system in memory. A database is some 300 files: they are made in 20 ms there, on a busy disk in 200.
func memory() string { return "/dev/shm" }

// room returns an error if the file system of dir has less space than tests may need. In containers the file system in
// memory is often tiny.
func room(dir string) error {
	const enough = 1 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < enough {
		return fmt.Errorf("%s has %d MB left: %d are needed", dir, free>>20, enough>>20)
	}
	return nil
}
