package cloudinary

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/providersim"
)

// identity names one asset of the cloud: the same public id may be an image, a video and a
// raw file at once, and each of them again under another delivery type.
type identity struct {
	ResourceType string `json:"resource_type"`
	Type         string `json:"type"` // upload, private, authenticated
	PublicID     string `json:"public_id"`
}

func (id identity) key() string { return id.ResourceType + "/" + id.Type + "/" + id.PublicID }

// asset is what the cloud keeps of one file.
type asset struct {
	identity
	AssetID   string    `json:"asset_id"`
	Version   int64     `json:"version"` // unix seconds, strictly growing
	VersionID string    `json:"version_id"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	ReadyAt   time.Time `json:"ready_at"` // invisible before

	Blobs       []providersim.Blob `json:"blobs"`
	Bytes       int64              `json:"bytes"`
	ETag        string             `json:"etag"`
	ContentType string             `json:"content_type"`
	Format      string             `json:"format"`
	Width       int                `json:"width"`
	Height      int                `json:"height"`

	OriginalFilename string            `json:"original_filename"`
	AssetFolder      string            `json:"asset_folder"`
	DisplayName      string            `json:"display_name"`
	Tags             []string          `json:"tags"`
	Context          map[string]string `json:"context,omitempty"`
	Metadata         map[string]string `json:"metadata,omitempty"`
	AccessControl    json.RawMessage   `json:"access_control,omitempty"`
}

// library keeps the assets of the cloud.
type library struct {
	files *providersim.Files
	mu    sync.Mutex // held over a look and the change that depends on it
	rows  *providersim.Table[asset]
}

func openLibrary(path string, files *providersim.Files) (*library, error) {
	rows, err := providersim.OpenTable[asset](path)
	if err != nil {
		return nil, err
	}
	return &library{files: files, rows: rows}, nil
}

func (l *library) Close() error { return l.rows.Close() }

// get returns the asset, if there is one and it is ready.
func (l *library) get(id identity, now time.Time) (asset, bool) {
	a, ok := l.rows.Get(id.key())
	return a, ok && !a.ReadyAt.After(now)
}

func (l *library) byAssetID(assetID string, now time.Time) (asset, bool) {
	for _, a := range l.rows.All() {
		if a.AssetID == assetID && !a.ReadyAt.After(now) {
			return a, true
		}
	}
	return asset{}, false
}

// put stores an asset. One with the same identity is overwritten and hands on its id, or,
// without overwrite, stays and is returned as existing.
func (l *library) put(a asset, overwrite bool) (stored asset, existing, overwritten bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, found := l.rows.Get(a.key())
	if found && !overwrite {
		return old, true, false, nil
	}
	a.Version = a.UpdatedAt.Unix()
	a.VersionID = hexID()
	a.AssetID, a.CreatedAt = hexID(), a.UpdatedAt
	if found {
		a.AssetID, a.CreatedAt = old.AssetID, old.CreatedAt
		a.Version = max(a.Version, old.Version+1)
	}
	if err := l.rows.Put(a.key(), a); err != nil {
		return asset{}, false, false, err
	}
	return a, false, found, l.files.Remove(old.Blobs...)
}

// change alters what is known of an asset, but neither its identity nor its bytes.
func (l *library) change(id identity, f func(*asset)) (before, after asset, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	after, ok, err = l.rows.Update(id.key(), func(a *asset) error {
		before = *a
		f(a)
		return nil
	})
	return before, after, ok, err
}

var errTaken = errors.New("another asset has that public id")

// move gives an asset another identity. One that has it already is replaced with overwrite,
// and is errTaken without.
func (l *library) move(from, to identity, overwrite bool, now time.Time) (asset, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.rows.Get(from.key())
	if !ok || a.ReadyAt.After(now) {
		return asset{}, false, nil
	}
	old, taken := l.rows.Get(to.key())
	if taken && !overwrite {
		return asset{}, true, errTaken
	}
	a.identity, a.UpdatedAt = to, now
	if err := errors.Join(l.rows.Put(to.key(), a), l.rows.Delete(from.key())); err != nil {
		return asset{}, true, err
	}
	return a, true, l.files.Remove(old.Blobs...)
}

// remove deletes an asset and returns what it was; found is whether there was one.
func (l *library) remove(id identity) (a asset, found bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, found = l.rows.Get(id.key())
	if !found {
		return asset{}, false, nil
	}
	return a, true, errors.Join(l.rows.Delete(id.key()), l.files.Remove(a.Blobs...))
}

// list returns the ready assets that pass, newest first.
func (l *library) list(now time.Time, pass func(asset) bool) []asset {
	var found []asset
	for _, a := range l.rows.All() {
		if !a.ReadyAt.After(now) && pass(a) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, newestFirst)
	return found
}

func newestFirst(a, b asset) int {
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.key(), b.key()))
}

// randomID is a public id for an upload that names none, 20 characters.
func randomID() string { return strings.ToLower(rand.Text())[:20] }
