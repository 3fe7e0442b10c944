package pgserver

import "syscall"

// dieWithParent lets the kernel tell PostgreSQL to stop at once when this process ends.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
