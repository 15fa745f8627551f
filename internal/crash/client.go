package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"slipway/internal/upload"
)

// sent is what the owner of a file knows.
type sent struct {
	parcel
	id     upload.ID     // "" where nothing was acknowledged
	asked  bool          // for the wish, with or without an answer
	became upload.Status // what the answer to the wish said; "" where there was none, or a refusal
	last   string        // why the last try was none
}

// content is what the file holds.
func (p parcel) content(seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(p.n))
	return io.LimitReader(rand.NewChaCha8(key), p.size)
}

func (p parcel) sum(seed uint64) string {
	h := sha256.New()
	_, _ = io.Copy(h, p.content(seed)) // neither can fail
	return hex.EncodeToString(h.Sum(nil))
}

func (p parcel) name() string { return fmt.Sprintf("crash-%d.bin", p.n) }

// sendAll sends each file at its time, or as soon as a client is free.
func (l *lab) sendAll(ctx context.Context, parcels []parcel) []sent {
	all := make([]sent, len(parcels))
	free := make(chan struct{}, l.clients)
	var wg sync.WaitGroup
	for i, p := range parcels {
		all[i].parcel = p
		if !pause(ctx, time.Until(l.began.Add(p.at))) {
			break
		}
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			l.sendOne(ctx, &all[i])
		})
	}
	wg.Wait()
	return all
}

// sendOne sends a file until somebody has acknowledged it, and then asks for what its owner wants of it.
func (l *lab) sendOne(ctx context.Context, s *sent) {
	send := map[string]func(context.Context, string, parcel) (upload.ID, error){
		"/upload": l.sendForm, "raw": l.sendRaw, "form": l.sendForm, "url": l.sendURL,
		"tus": (&resumer{lab: l}).send, "direct": (&browser{lab: l}).send,
	}[s.route]
	turn := s.n
	again := func(try func(base string) error) bool {
		for pause(ctx, 0) {
			turn++
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			err := try(l.posts[api(turn%l.apis)].url)
			cancel()
			if err == nil {
				return true
			}
			s.last = err.Error()
			pause(ctx, 300*time.Millisecond)
		}
		return false
	}
	acknowledged := again(func(base string) (err error) {
		s.id, err = send(ctx, base, s.parcel)
		return err
	})
	if !acknowledged || s.wish == "" || !pause(ctx, s.after) {
		return
	}
	again(func(base string) error {
		s.asked = true
		method, path := http.MethodDelete, "/v1/uploads/"+string(s.id)
		if s.wish == "cancel" {
			method, path = http.MethodPost, path+"/cancel"
		}
		a, err := l.ask(ctx, method, base+path, "", nil, 0)
		if a.status == http.StatusConflict {
			return nil // too late, or it has ended another way
		}
		s.became = a.Status
		return err
	})
}

// answer is what the lab reads of any answer of the service or of a provider.
type answer struct {
	status int // of HTTP

	ID        upload.ID         `json:"id"`
	Status    upload.Status     `json:"-"`
	UploadID  upload.ID         `json:"upload_id"` // of a problem
	Code      upload.Code       `json:"code"`
	UploadURL string            `json:"upload_url"`
	Fields    map[string]string `json:"fields"`
	File      string            `json:"file"` // Uploadcare's
	PublicID  string            `json:"public_id"`
	SecureURL string            `json:"secure_url"`
	Type      string            `json:"resource_type"`
	Version   json.Number       `json:"version"`
	Signature string            `json:"signature"`

	Said json.RawMessage `json:"status"` // a word of uploads, a number of problems
}

// ask sends a request and reads the answer; any that is no success is an error.
func (l *lab) ask(ctx context.Context, method, to, kind string, body io.Reader, size int64, header ...string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return a, err
	}
	req.ContentLength = size
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, mib))
	if err != nil {
		return a, err
	}
	a.status = resp.StatusCode
	if err := json.Unmarshal(text, &a); err != nil {
		return a, fmt.Errorf("%s: %w", resp.Status, err)
	}
	_ = json.Unmarshal(a.Said, &a.Status) // a problem's is a number
	if resp.StatusCode/100 != 2 {
		return a, fmt.Errorf("%s %s", resp.Status, a.Code)
	}
	return a, nil
}

// accepted is the id in an answer that says that the service has the file. One that tells how the delivery has
// failed says so, too.
func accepted(a answer, err error) (upload.ID, error) {
	switch {
	case err == nil && a.ID != "":
		return a.ID, nil
	case err == nil:
		return "", fmt.Errorf("%d without an id", a.status)
	case a.UploadID != "" && endedBy(a.Code):
		return a.UploadID, nil
	}
	return "", err
}

// endedBy tells whether a problem is that of an upload that was accepted and has failed.
func endedBy(c upload.Code) bool {
	switch c {
	case upload.ProviderUnavailable, upload.ProviderThrottled, upload.ProviderRejected, upload.ProviderAccount, upload.SessionLost,
		upload.IntegrityMismatch, upload.WorkerLost, upload.StagingCorrupted, upload.DeadlineExceeded:
		return true
	}
	return false
}

func (l *lab) sendForm(ctx context.Context, base string, p parcel) (upload.ID, error) {
	route := "/v1/uploads"
	var header []string
	if p.route == "/upload" {
		route = p.route
		if p.async {
			header = []string{"Prefer", "respond-async"}
		}
	}
	header = append(header, l.key(p)...)
	kind, body, size := form(map[string]string{"provider": p.provider, "fileName": p.name()}, p, p.content(l.seed))
	return accepted(l.ask(ctx, http.MethodPost, base+route, kind, body, size, header...))
}

func (l *lab) sendRaw(ctx context.Context, base string, p parcel) (upload.ID, error) {
	to := base + "/v1/uploads?" + url.Values{"provider": {p.provider}, "file_name": {p.name()}}.Encode()
	return accepted(l.ask(ctx, http.MethodPost, to, "application/octet-stream", p.content(l.seed), p.size, l.key(p)...))
}

// form is a body with these fields before the file.
func form(fields map[string]string, p parcel, content io.Reader) (kind string, body io.Reader, size int64) {
	var text strings.Builder
	w := multipart.NewWriter(&text)
	for name, value := range fields {
		_ = w.WriteField(name, value) // a strings.Builder takes everything
	}
	_, _ = w.CreateFormFile("file", p.name())
	head := text.String()
	_ = w.Close()
	tail := text.String()[len(head):]
	return w.FormDataContentType(), io.MultiReader(strings.NewReader(head), content, strings.NewReader(tail)), int64(len(head)+len(tail)) + p.size
}

// browser sends a file to its provider itself. What it has got done it does not do again.
type browser struct {
	*lab
	reserved *answer // nil: not yet
	stored   *answer
}

func (b *browser) send(ctx context.Context, base string, p parcel) (upload.ID, error) {
	if b.reserved == nil {
		route := "/generate-signature"
		if p.provider == "uploadcare" {
			route = "/v1/direct/uploadcare"
		}
		query := url.Values{"reserve": {"1"}, "file_name": {p.name()}, "resource_type": {"raw"}}
		a, err := b.ask(ctx, http.MethodGet, base+route+"?"+query.Encode(), "", nil, 0)
		if err != nil {
			return "", err
		}
		b.reserved = &a
	}
	if b.stored == nil {
		kind, body, size := form(b.reserved.Fields, p, p.content(b.seed))
		a, err := b.ask(ctx, http.MethodPost, b.reserved.UploadURL, kind, body, size, fromBrowser, "yes")
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.provider, err)
		}
		if cmp.Or(a.File, a.PublicID) == "" {
			return "", fmt.Errorf("%s answered without a name", p.provider)
		}
		b.stored = &a
	}
	claim := map[string]any{"provider": p.provider, "id": b.reserved.ID, "file_id": b.stored.File}
	if p.provider == "cloudinary" {
		claim = map[string]any{
			"public_id": b.stored.PublicID, "secure_url": b.stored.SecureURL, "resource_type": b.stored.Type,
			"version": b.stored.Version, "signature": b.stored.Signature,
		}
	}
	text, err := json.Marshal(claim)
	if err != nil {
		return "", err
	}
	return accepted(b.ask(ctx, http.MethodPost, base+"/save-metadata", "application/json", strings.NewReader(string(text)), int64(len(text))))
}
