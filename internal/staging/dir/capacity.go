package dir

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Capacity is how many bytes there would be room for if the file system held nothing, without the reserve.
func (s *Store) Capacity() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.path, &st); err != nil {
		return 0, fmt.Errorf("size of the file system of %s: %w", s.path, err)
	}
	return max(0, int64(st.Blocks)*int64(st.Bsize)-s.reserve), nil //nolint:unconvert // not every system has the same types here
}
