package dir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"slipway/internal/staging"
)

// ownerFile says whose the directory is.
const ownerFile = "slipway.json"

type owner struct {
	Installation string `json:"installation"`
	Staging      string `json:"staging"` // the directory's own id: another directory of the same installation has another
}

// Claim implements [staging.Store]. Once claimed, a directory that has lost its owner file, or shows
// another one, is not reachable: something else stands at its path, such as the mount point of a volume.
func (s *Store) Claim(_ context.Context, installation string) error {
	path := filepath.Join(s.path, ownerFile)
	o, err := readOwner(path)
	if errors.Is(err, fs.ErrNotExist) {
		o, err = s.writeOwner(path, owner{Installation: installation, Staging: uuid.NewString()})
	}
	if err != nil {
		return fmt.Errorf("claim staging: %w", err)
	}
	if o.Installation != installation {
		return fmt.Errorf("%w: %s is installation %s's, not %s's", staging.ErrForeign, s.path, o.Installation, installation)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("claim staging: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owner, s.claim = o, info
	return nil
}

func readOwner(path string) (o owner, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return owner{}, err
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return owner{}, fmt.Errorf("%s: %w", path, err)
	}
	return o, nil
}

// writeOwner makes the owner file at path, whole or not at all, and returns what it says: of several
// processes at once one is first, and the others read its file.
func (s *Store) writeOwner(path string, o owner) (owner, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return owner{}, err
	}
	tmp, err := os.CreateTemp(s.path, ownerFile+".*")
	if err != nil {
		return owner{}, err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(append(b, '\n'))
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return owner{}, err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return owner{}, err
	}
	if err := s.syncDir(s.path); err != nil {
		return owner{}, err
	}
	return readOwner(path)
}

// ID is the directory's own, made when it was claimed for the first time; "" before Claim.
func (s *Store) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner.Staging
}

// reachable is an error when the directory is not there, or not the one that was claimed.
func (s *Store) reachable() error {
	s.mu.Lock()
	claim := s.claim
	s.mu.Unlock()

	if claim == nil {
		if _, err := os.Stat(s.path); err != nil {
			return fmt.Errorf("staging directory: %w", err)
		}
		return nil
	}
	info, err := os.Stat(filepath.Join(s.path, ownerFile))
	if err != nil {
		return fmt.Errorf("staging directory has lost its owner: %w", err)
	}
	if !os.SameFile(info, claim) {
		return fmt.Errorf("another directory stands at %s than the one that was claimed", s.path)
	}
	return nil
}
