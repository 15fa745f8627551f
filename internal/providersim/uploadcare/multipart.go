package uploadcare

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/providersim"
)

const (
	// minMultipart is the smallest multipart upload, in bytes (recorded error text).
	minMultipart = 10_485_760
	// minPart and maxPart bound part_size, 5 MiB to 5 GiB (Upload API reference, "Start
	// multipart upload"); maxParts is S3's.
	minPart  = 5 << 20
	maxPart  = 5 << 30
	maxParts = 10_000
	// sessionLife is how long part URLs work (X-Amz-Expires in recorded traffic).
	sessionLife = 24 * time.Hour
)

// Session is a multipart upload, as it is kept.
type Session struct {
	UUID      string    `json:"uuid"`
	UploadID  string    `json:"upload_id"` // S3's
	Size      int64     `json:"size"`
	PartSize  int64     `json:"part_size"`
	Started   time.Time `json:"started"`
	Completed bool      `json:"completed"`
	File      file      `json:"file"`
}

// part is one that has arrived.
type part struct {
	Blob providersim.Blob `json:"blob"`
}

func (ses Session) count() int { return int((ses.Size + ses.PartSize - 1) / ses.PartSize) }

// lengthOf is how many bytes part n is to have, n from 1.
func (ses Session) lengthOf(n int) int64 {
	return min(ses.PartSize, ses.Size-int64(n-1)*ses.PartSize)
}

func (ses Session) overAt(now time.Time) bool { return now.After(ses.Started.Add(sessionLife)) }

func partKey(id string, n int) string { return id + "/" + strconv.Itoa(n) }

// start begins a multipart upload and answers with a URL for each part, in order.
func (s *Sim) start(r *http.Request) (any, error) {
	f, err := s.readForm(r)
	if err := s.discard(f); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	one, err := s.admit(f, "UPLOADCARE_PUB_KEY", "UPLOADCARE_STORE")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"filename", "size", "content_type"} {
		if f.Get(name) == "" {
			return nil, required(name)
		}
	}
	one.Name, one.MimeType = shortName(f.Get("filename")), f.Get("content_type")
	ses := Session{UUID: newUUID(), UploadID: strings.ReplaceAll(newUUID()+newUUID(), "-", ""), Started: s.Controls.Clock.Now(), File: one}
	if ses.Size, err = s.sizeOf(f.Get("size")); err != nil {
		return nil, err
	}
	if ses.PartSize, err = s.partSize(f.Get("part_size"), ses.Size); err != nil {
		return nil, err
	}
	if err := s.sessions.Put(ses.UUID, ses); err != nil {
		return nil, err
	}
	urls := make([]string, ses.count())
	for i := range urls {
		urls[i] = s.partURL(ses, i+1)
	}
	return map[string]any{"uuid": ses.UUID, "parts": urls}, nil
}

func (s *Sim) sizeOf(text string) (int64, error) {
	size, err := strconv.ParseInt(text, 10, 64)
	c := s.Config()
	switch {
	case err != nil:
		return 0, errSizeMalformed
	case size < cmp.Or(c.MinMultipart, minMultipart):
		return 0, errSizeTooSmall
	case c.MaxFileSize > 0 && size > c.MaxFileSize:
		return 0, errProjectLimit
	}
	return size, nil
}

func (s *Sim) partSize(text string, size int64) (int64, error) {
	if text == "" {
		text = strconv.Itoa(minPart)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return 0, errPartSizeInvalid
	case n < cmp.Or(s.Config().MinPart, minPart), (size+n-1)/n > maxParts:
		return 0, errPartSizeTooSmall
	case n > maxPart:
		return 0, errPartSizeTooBig
	}
	return n, nil
}

// complete makes a file of the parts. A refused session stays open for the missing parts.
func (s *Sim) complete(r *http.Request) (any, error) {
	f, err := s.readForm(r)
	if err := s.discard(f); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if err := s.checkKey(f, "UPLOADCARE_PUB_KEY"); err != nil {
		return nil, err
	}
	id := f.Get("uuid")
	if id == "" {
		return nil, required("uuid")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ses, ok := s.sessions.Get(id)
	switch {
	case !ok:
		return nil, errUploadNotFound
	case ses.Completed:
		return nil, errAlreadyThere
	case ses.overAt(s.Controls.Clock.Now()):
		return nil, errUploadNotFound
	}
	blobs, err := s.whole(ses)
	if err != nil {
		return nil, err
	}
	a, err := s.newAsset(id, ses.File, blobs)
	if err != nil {
		return nil, err
	}
	// The asset comes first: a process killed in between completes again, over the same parts.
	if err := s.appear(a); err != nil {
		return nil, err
	}
	ses.Completed = true
	if err := s.sessions.Put(id, ses); err != nil {
		return nil, err
	}
	for n := 1; n <= ses.count(); n++ {
		if err := s.parts.Delete(partKey(id, n)); err != nil {
			return nil, err
		}
	}
	return s.uploadView(a), nil
}

// whole is the parts in order, if they are as promised.
func (s *Sim) whole(ses Session) ([]providersim.Blob, error) {
	var sum int64
	blobs := make([]providersim.Blob, ses.count())
	even := true
	for i := range blobs {
		p, _ := s.parts.Get(partKey(ses.UUID, i+1))
		blobs[i] = p.Blob
		sum += p.Blob.Size
		even = even && p.Blob.Size == ses.lengthOf(i+1)
	}
	switch {
	case sum < ses.Size:
		return nil, errPartsMissing
	case sum > ses.Size:
		return nil, errPartsTooMuch
	case !even:
		return nil, errPartsUneven
	}
	return blobs, nil
}

// sweepSessions frees the parts of sessions that nobody completed in time.
func (s *Sim) sweepSessions(now time.Time) error {
	for id, ses := range s.sessions.All() {
		if ses.Completed || !ses.overAt(now) {
			continue
		}
		for n := 1; n <= ses.count(); n++ {
			p, ok := s.parts.Get(partKey(id, n))
			if !ok {
				continue
			}
			if err := s.parts.Delete(partKey(id, n)); err != nil {
				return err
			}
			if err := s.files.Remove(p.Blob); err != nil {
				return err
			}
		}
		if err := s.sessions.Delete(id); err != nil {
			return err
		}
	}
	return nil
}

// SessionState is one entry of /_sim/sessions.
type SessionState struct {
	Session
	Parts []PartState `json:"parts"` // that have arrived, by number; none once completed
}

// PartState is a part that has arrived.
type PartState struct {
	N    int    `json:"n"` // from 1
	Size int64  `json:"size"`
	MD5  string `json:"md5"`
}

// Sessions lists the multipart uploads, oldest first.
func (s *Sim) Sessions() []SessionState {
	list := []SessionState{}
	for id, ses := range s.sessions.All() {
		state := SessionState{Session: ses, Parts: []PartState{}}
		for n := 1; n <= ses.count(); n++ {
			if p, ok := s.parts.Get(partKey(id, n)); ok {
				state.Parts = append(state.Parts, PartState{N: n, Size: p.Blob.Size, MD5: p.Blob.MD5})
			}
		}
		list = append(list, state)
	}
	slices.SortFunc(list, func(a, b SessionState) int {
		return cmp.Or(a.Started.Compare(b.Started), strings.Compare(a.UUID, b.UUID))
	})
	return list
}

func (s *Sim) serveSessions(w http.ResponseWriter, r *http.Request) {
	providersim.WriteControl(w, s.Sessions())
}

// arrive records a part, in place of an earlier one with its number.
func (s *Sim) arrive(ses Session, n int, blob providersim.Blob) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, ok := s.sessions.Get(ses.UUID)
	if !ok || now.Completed {
		return errNoSuchUpload
	}
	before, replaced := s.parts.Get(partKey(ses.UUID, n))
	if err := s.parts.Put(partKey(ses.UUID, n), part{blob}); err != nil {
		return err
	}
	if replaced {
		if err := s.files.Remove(before.Blob); err != nil {
			return fmt.Errorf("replace part %d: %w", n, err)
		}
	}
	return nil
}
