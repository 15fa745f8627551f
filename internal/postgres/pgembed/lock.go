package pgembed

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const lockName = "lock"

// lock takes the lock file at path, or returns nil when somebody else has it. The lock is given up when the last
// copy of the file is closed: a server that inherits one holds it as long as any of its processes lives. That is
// how the death of a server is known for certain, where a process id may belong to a zombie or to a stranger.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, f.Close()
	default:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
}
