package dir

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// disk is a file of the operating system.
type disk struct{ *os.File }

func openDisk(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return disk{f}, nil
}

// Free implements [staging.Store]: what the file system gives to an unprivileged user, without the reserve.
func (s *Store) Free(context.Context) (int64, error) {
	if err := s.reachable(); err != nil {
		return 0, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.path, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.path, err)
	}
	return max(0, int64(st.Bavail)*int64(st.Bsize)-s.reserve), nil //nolint:unconvert // not every system has the same types here
}
