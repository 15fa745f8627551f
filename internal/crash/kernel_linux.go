package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithUs ends a process also when this one is killed.
func dieWithUs(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// smallDisk makes dir a file system of its own, in memory. It takes root.
func smallDisk(dir string, size int64) (unmount func() error, err error) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		return nil, err
	}
	return func() error { return unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// ballast takes all that is free on the disk of dir until it is let go.
func ballast(dir string) (letGo func() error, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, err
	}
	f, err := os.Create(filepath.Join(dir, ".ballast"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var taken int64
	for n := int64(st.Bavail) * st.Bsize; n >= st.Bsize; { // others write meanwhile
		if unix.Fallocate(int(f.Fd()), 0, taken, n) == nil {
			taken += n
		} else {
			n /= 2
		}
	}
	return func() error { return os.Remove(f.Name()) }, nil
}
