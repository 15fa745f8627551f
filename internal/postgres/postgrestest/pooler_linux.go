package postgrestest

import "syscall"

// untilDeath ends a program at once when the thread that has started it dies.
func untilDeath(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}
