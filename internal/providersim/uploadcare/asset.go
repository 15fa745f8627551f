package uploadcare

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"image"
	_ "image/gif"  // measured in content_info
	_ "image/jpeg" // measured in content_info
	_ "image/png"  // measured in content_info
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gabriel-vasile/mimetype"
	"github.com/google/uuid"

	"slipway/internal/providersim"
)

// unstoredLife is how long a file lives that nobody stored ("Storage" in the documentation).
const unstoredLife = 24 * time.Hour

// maxName bounds a file name, in characters; the service's own bound is not documented.
const maxName = 255

// Asset is one uploaded file, as it is kept.
type Asset struct {
	UUID     string             `json:"uuid"`
	Name     string             `json:"name"`      // as the client gave it
	MimeType string             `json:"mime_type"` // as the client declared it
	Blobs    []providersim.Blob `json:"blobs,omitempty"`
	Size     int64              `json:"size"`
	Sum      string             `json:"md5,omitempty"` // of the whole; "" until somebody asked
	ETag     string             `json:"etag"`

	Detected string `json:"detected"` // MIME type found in the content
	Image    *Image `json:"image,omitempty"`

	Uploaded time.Time  `json:"uploaded"`
	Ready    *time.Time `json:"ready,omitempty"` // nil is never
	Stored   *time.Time `json:"stored,omitempty"`
	Removed  *time.Time `json:"removed,omitempty"`
	Expired  bool       `json:"expired,omitempty"` // removed by the service, nobody having stored it

	Metadata map[string]string `json:"metadata,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
}

// Image is what the service found out about an image.
type Image struct {
	Format string `json:"format"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// at is the asset at a time: one that nobody stored is removed when its life is over.
func (a Asset) at(now time.Time) Asset {
	end := a.Uploaded.Add(unstoredLife)
	if a.Stored == nil && a.Removed == nil && !now.Before(end) {
		a.Removed, a.Expired = &end, true
	}
	return a
}

func (a Asset) readyAt(now time.Time) bool { return a.Ready != nil && !now.Before(*a.Ready) }

// file is what an upload says about the file it brings.
type file struct {
	Name     string            `json:"name"`
	MimeType string            `json:"mime_type"`
	Store    bool              `json:"store"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Tags     []string          `json:"tags,omitempty"`
}

// newAsset makes the asset of an upload that is now complete. It reads the head of the content.
func (s *Sim) newAsset(id string, f file, blobs []providersim.Blob) (Asset, error) {
	now := s.Controls.Clock.Now().Truncate(time.Microsecond) // as far as the REST API shows it
	a := Asset{
		UUID: id, Name: f.Name, MimeType: f.MimeType, Blobs: blobs, ETag: etag(blobs),
		Uploaded: now, Metadata: f.Metadata, Tags: f.Tags,
	}
	if len(blobs) == 1 {
		a.Sum = blobs[0].MD5
	}
	if f.Store {
		a.Stored = &now
	}
	if delay := s.Config().ReadyDelayMS; delay >= 0 {
		ready := now.Add(time.Duration(delay) * time.Millisecond)
		a.Ready = &ready
	}
	content := s.files.Open(blobs...)
	defer content.Close()
	a.Size = content.Size()
	detected, err := mimetype.DetectReader(content)
	if err != nil {
		return Asset{}, fmt.Errorf("look at %s: %w", id, err)
	}
	a.Detected, _, _ = strings.Cut(detected.String(), ";")
	if strings.HasPrefix(a.Detected, "image/") {
		a.Image = measure(content)
	}
	return a, nil
}

// measure is nil for an image that cannot be measured.
func measure(content *providersim.Content) *Image {
	if _, err := content.Seek(0, 0); err != nil {
		return nil
	}
	dim, format, err := image.DecodeConfig(content)
	if err != nil {
		return nil
	}
	return &Image{Format: strings.ToUpper(format), Width: dim.Width, Height: dim.Height}
}

// etag is S3's: the MD5 of one blob, or of the MD5s of several with their number.
func etag(blobs []providersim.Blob) string {
	if len(blobs) == 1 {
		return blobs[0].MD5
	}
	sum := md5.New()
	for _, b := range blobs {
		raw, _ := hex.DecodeString(b.MD5) // our own hex
		sum.Write(raw)
	}
	return fmt.Sprintf("%x-%d", sum.Sum(nil), len(blobs))
}

// asset returns a file as it is now; a removed one is shown too.
func (s *Sim) asset(id string) (Asset, bool) {
	a, ok := s.assets.Get(id)
	if !ok {
		return Asset{}, false
	}
	return a.at(s.Controls.Clock.Now()), true
}

// appear keeps a file that is new in the project and tells of it. One that is stored at once
// is told of twice, as uploaded and as stored; the documentation leaves the latter open.
func (s *Sim) appear(a Asset) error {
	if err := s.assets.Put(a.UUID, a); err != nil {
		return err
	}
	if err := s.notify(fileUploaded, a, byAPI(), nil); err != nil || a.Stored == nil {
		return err
	}
	return s.notify(fileStored, a, byAPI(), nil)
}

// store makes a file permanent; storing again keeps the first time stamp, and a removed file
// stays removed.
func (s *Sim) store(id string) (Asset, bool, error) {
	now := s.Controls.Clock.Now()
	stored := false
	a, ok, err := s.assets.Update(id, func(a *Asset) error {
		*a = a.at(now)
		if stored = a.Stored == nil && a.Removed == nil; stored {
			a.Stored = &now
		}
		return nil
	})
	if err == nil && stored {
		err = s.notify(fileStored, a, byAPI(), nil)
	}
	return a, ok, err
}

// remove deletes a file's bytes; its record stays.
func (s *Sim) remove(id string) (Asset, bool, error) {
	now := s.Controls.Clock.Now()
	var blobs []providersim.Blob
	a, ok, err := s.assets.Update(id, func(a *Asset) error {
		if *a = a.at(now); a.Removed == nil {
			a.Removed = &now
		}
		blobs, a.Blobs, a.Stored = a.Blobs, nil, nil
		return nil
	})
	if err == nil {
		err = s.files.Remove(blobs...)
	}
	if err != nil || len(blobs) == 0 {
		return a, ok, err
	}
	by := byAPI()
	if a.Expired {
		by = bySystem()
	}
	return a, ok, s.notify(fileDeleted, a, by, nil)
}

// sweep frees the bytes of what has expired, at most once an hour of the simulator's clock.
func (s *Sim) sweep() error {
	now := s.Controls.Clock.Now()
	s.mu.Lock()
	due := now.Sub(s.swept) >= time.Hour
	if due {
		s.swept = now
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	for id, a := range s.assets.All() {
		if len(a.Blobs) > 0 && a.at(now).Expired {
			if _, _, err := s.remove(id); err != nil {
				return err
			}
		}
	}
	return s.sweepSessions(now)
}

// File is one entry of /_sim/files.
type File struct {
	UUID     string            `json:"uuid"`
	Name     string            `json:"name"`
	MimeType string            `json:"mime_type"`
	Size     int64             `json:"size"`
	MD5      string            `json:"md5"` // "" once the bytes are removed, if nobody asked before
	Uploaded time.Time         `json:"uploaded"`
	Stored   bool              `json:"stored"`
	Removed  bool              `json:"removed"`
	Expired  bool              `json:"expired"` // removed because nobody stored it
	Metadata map[string]string `json:"metadata"`
	Tags     []string          `json:"tags"`
}

// Inventory lists every file there ever was, oldest first.
func (s *Sim) Inventory() ([]File, error) {
	list := []File{}
	now := s.Controls.Clock.Now()
	for id, a := range s.assets.All() {
		a = a.at(now)
		if a.Sum == "" && len(a.Blobs) > 0 {
			sum, err := s.files.MD5(a.Blobs...)
			if err != nil {
				return nil, err
			}
			if _, _, err := s.assets.Update(id, func(a *Asset) error { a.Sum = sum; return nil }); err != nil {
				return nil, err
			}
			a.Sum = sum
		}
		list = append(list, File{
			UUID: id, Name: a.Name, MimeType: a.MimeType, Size: a.Size, MD5: a.Sum, Uploaded: a.Uploaded,
			Stored: a.Stored != nil, Removed: a.Removed != nil, Expired: a.Expired, Metadata: a.Metadata, Tags: a.Tags,
		})
	}
	slices.SortFunc(list, func(a, b File) int {
		return cmp.Or(a.Uploaded.Compare(b.Uploaded), strings.Compare(a.UUID, b.UUID))
	})
	return list, nil
}

func (s *Sim) serveFiles(w http.ResponseWriter, r *http.Request) {
	list, err := s.Inventory()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	providersim.WriteControl(w, list)
}

func newUUID() string { return uuid.NewString() }

// safeName is a file name as it stands in URLs: the stem keeps ASCII letters, digits and _.
func safeName(name string) string {
	stem, ext := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		stem, ext = name[:dot], name[dot+1:]
	}
	keep := func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}
	stem, ext = strings.Map(keep, stem), strings.Map(keep, ext)
	if stem == "" {
		stem = "file"
	}
	if ext == "" {
		return stem
	}
	return stem + "." + ext
}
