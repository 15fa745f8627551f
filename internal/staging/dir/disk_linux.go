//go:build !unsynced

package dir

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Datasync leaves out what a reader does not need, such as the time of change.
func (d disk) Datasync() error {
	return d.call("fdatasync", unix.Fdatasync)
}

// Writeback starts on the range and returns; it waits only where the device's queue is full.
func (d disk) Writeback(offset, n int64) error {
	return d.call("sync_file_range", func(fd int) error {
		return unix.SyncFileRange(fd, offset, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

func (d disk) call(op string, f func(fd int) error) error {
	conn, err := d.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	err = conn.Control(func(fd uintptr) {
		for {
			if ferr = f(int(fd)); !errors.Is(ferr, unix.EINTR) {
				return
			}
		}
	})
	if err == nil && ferr != nil {
		err = &os.PathError{Op: op, Path: d.Name(), Err: ferr}
	}
	return err
}
