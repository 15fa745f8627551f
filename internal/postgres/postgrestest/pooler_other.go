//go:build unix && !linux

package postgrestest

import "syscall"

// untilDeath keeps Ctrl-C away from a program.
func untilDeath(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}
