//go:build unix && !linux

package pgembed

import "syscall"

// locale is one that macOS has in every release.
const locale = "en_US.UTF-8"

// attributes keep Ctrl-C away from the server.
func attributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}

// serves says whether pid may be a PostgreSQL server on data.
func serves(pid int, _ string) bool { return syscall.Kill(pid, 0) == nil }
