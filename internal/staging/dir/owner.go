package dir

import (
	"errors"
	"io/fs"
	"path/filepath"
)

// Owner tells whose the directory at path is, and its own id, without claiming it; both are "" when
// it is nobody's.
func Owner(path string) (installation, id string, err error) {
	o, err := readOwner(filepath.Join(path, ownerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	return o.Installation, o.Staging, err
}
