package pgembed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const locale = "C.UTF-8"

// attributes keep Ctrl-C away from the server, and end it with a fast shutdown when the thread that has started it dies.
func attributes(as *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: syscall.SIGINT}
}

// serves says whether pid is a PostgreSQL server on data. Where we may not see its folder, it may well be.
func serves(pid int, data string) bool {
	proc := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(proc + "/stat") // pid (comm) state ..., proc(5)
	if err != nil {
		return false
	}
	name, rest, _ := strings.Cut(string(stat[bytes.IndexByte(stat, '(')+1:]), ") ")
	if name != "postgres" || strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X") {
		return false
	}
	folder, err := os.Readlink(proc + "/cwd")
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	if real, err := filepath.EvalSymlinks(data); err == nil {
		data = real
	}
	return folder == data
}
