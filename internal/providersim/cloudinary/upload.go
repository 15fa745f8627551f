package cloudinary

import (
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // formats whose width and height are told
	_ "image/jpeg"
	_ "image/png"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gabriel-vasile/mimetype"

	"slipway/internal/providersim"
)

// maxSync is the most bytes that are taken without async=true (Upload guide).
const maxSync = 20e9

func tooLargeForPlan(got, limit int64) error {
	return fail(http.StatusBadRequest, fmt.Sprintf(
		"File size too large. Got %d. Maximum is %d. Upgrade your plan to enjoy higher limits", got, limit))
}

// upload takes a file, whole or one chunk of it.
func (s *Sim) upload(r *http.Request, f *form, pathType string) (any, error) {
	if f.file == nil {
		return nil, missing("file")
	}
	settings := s.Settings()
	if err := f.check(settings); err != nil {
		return nil, err
	}
	if f.chunk != nil {
		return s.uploadChunk(r, f, pathType, settings)
	}
	d := s.describe(f, pathType, f.file.head, settings)
	d.blobs, d.size, d.etag = []providersim.Blob{f.file.blob}, f.file.blob.Size, f.file.blob.MD5
	if limit := settings.Limits.Of(d.resourceType); d.size > limit {
		return nil, tooLargeForPlan(d.size, limit)
	}
	answer, kept, err := s.store(r, f, d)
	f.file.kept = kept
	return answer, err
}

// chunkAnswer is what every chunk but the completing one gets.
type chunkAnswer struct {
	Done         bool   `json:"done"`
	Bytes        int64  `json:"bytes"` // received so far
	Kind         string `json:"kind"`
	ResourceType string `json:"resource_type,omitempty"`
	PublicID     string `json:"public_id,omitempty"`
}

func (s *Sim) uploadChunk(r *http.Request, f *form, pathType string, settings Settings) (any, error) {
	if f.uploadID == "" {
		if f.chunk.start > 0 {
			return nil, missing("public_id")
		}
		f.uploadID = randomID()
	}
	p, complete, err := s.partials.add(f, terms{
		now:      s.controls.Clock.Now(),
		deadline: s.deadline(),
		minChunk: settings.MinChunk,
		inOrder:  settings.InOrder,
		limit: func(head []byte) int64 {
			return settings.Limits.Of(s.describe(f, pathType, head, settings).resourceType)
		},
	})
	if err != nil {
		return nil, err
	}
	d := s.describe(f, pathType, p.Head, settings)
	if !complete {
		answer := chunkAnswer{Bytes: p.received(), Kind: "upload", PublicID: f.get("public_id")}
		if pathType != "auto" {
			answer.ResourceType = d.resourceType
		}
		return answer, nil
	}
	d.randomID, d.blobs, d.size = p.PublicID, p.blobs(), p.Total
	if d.etag, err = s.partials.md5(p); err != nil {
		return nil, err
	}
	d.chunked = true
	answer, kept, err := s.store(r, f, d)
	if !kept {
		err = errors.Join(err, s.files.Remove(d.blobs...))
	}
	return answer, err
}

// draft is an upload whose bytes are all there.
type draft struct {
	resourceType string
	contentType  string
	format       string // extension that the bytes, else the file name, stand for
	contentIs    string // resource type that the bytes alone stand for
	randomID     string

	blobs   []providersim.Blob
	size    int64
	etag    string
	chunked bool
}

// describe tells what a file is from its first bytes and its name, and under which resource
// type it goes: the one in the path, or under auto the field's, else what the bytes are.
func (s *Sim) describe(f *form, pathType string, head []byte, settings Settings) draft {
	sniffed := mimetype.Detect(head)
	d := draft{
		contentType: sniffed.String(),
		format:      strings.TrimPrefix(sniffed.Extension(), "."),
		contentIs:   kind(sniffed.String()),
		randomID:    randomID(),
	}
	ext := strings.TrimPrefix(path.Ext(f.fileName()), ".")
	if named := mime.TypeByExtension("." + ext); d.format == "" && named != "" {
		d.contentType = named
	}
	if d.format == "" {
		d.format = strings.ToLower(ext)
	}
	field := f.get("resource_type")
	switch {
	case pathType != "auto":
		d.resourceType = pathType
	case slices.Contains(resourceTypes, field) && !settings.AutoSniffs:
		d.resourceType = field
	default:
		d.resourceType = kind(d.contentType)
	}
	return d
}

// kind is the resource type of a media type: audio counts as video, PDF as image.
func kind(contentType string) string {
	major, _, _ := strings.Cut(contentType, "/")
	media, _, _ := strings.Cut(contentType, ";")
	switch {
	case major == "image", media == "application/pdf", media == "application/postscript":
		return "image"
	case major == "video", major == "audio", media == "application/ogg", media == "application/vnd.apple.mpegurl":
		return "video"
	default:
		return "raw"
	}
}

// fileName is the name the client gave the file, its override first.
func (f *form) fileName() string {
	if name := f.get("filename_override"); name != "" || f.file == nil {
		return name
	}
	return f.file.name
}

// stem is a file name without its extension.
func stem(name string) string {
	name = path.Base(name)
	return strings.TrimSuffix(name, path.Ext(name))
}

// check refuses parameters that no file could be stored with.
func (f *form) check(settings Settings) error {
	if t := f.deliveryType(); t != "upload" && t != "private" && t != "authenticated" {
		return fail(http.StatusBadRequest, "Invalid type "+t)
	}
	if id := f.get("public_id"); id != "" {
		if err := checkPublicID(id); err != nil {
			return err
		}
	}
	if ac := f.get("access_control"); ac != "" && !json.Valid([]byte(ac)) {
		return fail(http.StatusBadRequest, "Invalid access_control")
	}
	var unknown []string
	for id := range pairs(f.get("metadata")) {
		if !slices.Contains(settings.MetadataFields, id) {
			unknown = append(unknown, fmt.Sprintf("%q", id))
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fail(http.StatusBadRequest, "Metadata External IDs do not exist: ["+strings.Join(unknown, ", ")+"]")
	}
	return nil
}

// maxPublicID is the longest public id, in characters.
const maxPublicID = 255

func checkPublicID(id string) error {
	switch {
	case utf8.RuneCountInString(id) > maxPublicID:
		return fail(http.StatusBadRequest, fmt.Sprintf("public_id is longer than %d characters", maxPublicID))
	case strings.ContainsAny(id, `?&#\%<>+`), strings.Trim(id, " /") != id:
		return fail(http.StatusBadRequest, fmt.Sprintf("public_id (%s) is invalid", id))
	}
	return nil
}

func (f *form) deliveryType() string {
	if t := f.get("type"); t != "" {
		return t
	}
	return "upload"
}

// publicID is the id the upload asks for, else one from its file name, else a random one.
// A raw file's carries the extension.
func (f *form) publicID(d draft) string {
	id := f.get("public_id")
	if id == "" {
		id = d.randomID
		if name := tidy.Replace(stem(f.fileName())); name != "" && f.flag("use_filename", false) {
			id = name
			if f.flag("unique_filename", true) {
				id += "_" + randomID()[:6]
			}
		}
		if d.resourceType == "raw" {
			id += path.Ext(f.fileName())
		}
	}
	for _, prefix := range []string{f.get("public_id_prefix"), f.get("folder")} {
		if prefix != "" {
			id = strings.Trim(prefix, "/") + "/" + id
		}
	}
	return id
}

var tidy = strings.NewReplacer("?", "_", "&", "_", "#", "_", `\`, "_", "%", "_", "<", "_", ">", "_", "+", "_", " ", "_", "/", "_")

// store makes an asset of a draft. Unless it was kept, the bytes are still the caller's.
func (s *Sim) store(r *http.Request, f *form, d draft) (answer any, kept bool, err error) {
	switch {
	case d.size == 0:
		return nil, false, fail(http.StatusBadRequest, "Empty file")
	case d.size > maxSync && !f.flag("async", false):
		return nil, false, fail(http.StatusBadRequest, "File is too large for synchronous processing, use async")
	case d.resourceType == "image" && d.contentIs != "image":
		return nil, false, fail(http.StatusBadRequest, "Invalid image file")
	}
	if err := f.checkFormat(d); err != nil {
		return nil, false, err
	}
	now := s.controls.Clock.Now()
	a := s.compose(f, d, now)
	if err := checkPublicID(a.PublicID); err != nil {
		return nil, false, err
	}
	settings, pending := s.spend(func(st *Settings) *int { return &st.Pending })
	if pending || f.flag("async", false) {
		pending = true
		a.ReadyAt = now.Add(time.Duration(settings.PendingFor))
	}
	if _, wrong := s.spend(func(st *Settings) *int { return &st.WrongETags }); wrong {
		a.ETag = hexID()
	}
	a, existing, overwritten, err := s.assets.put(a, f.flag("overwrite", true))
	if err != nil {
		return nil, a.AssetID != "", err
	}
	view := s.view(r, a)
	view.Overwritten, view.Existing, view.Done = overwritten, existing, d.chunked
	s.addEager(&view, r, f, a)
	if !existing {
		s.notifyUpload(f, a, view)
	}
	if pending {
		return pendingAnswer{
			Status: "pending", ResourceType: a.ResourceType, Type: a.Type, PublicID: a.PublicID, BatchID: hexID(),
		}, !existing, nil
	}
	return view, !existing, nil
}

// pendingAnswer is the answer to async=true, and now and then to a large file without it.
type pendingAnswer struct {
	Status       string `json:"status"`
	ResourceType string `json:"resource_type"`
	Type         string `json:"type"`
	PublicID     string `json:"public_id"`
	BatchID      string `json:"batch_id"`
}

// checkFormat holds a draft to allowed_formats; a raw file's is the extension of its name.
func (f *form) checkFormat(d draft) error {
	allowed := f.list("allowed_formats")
	format := d.format
	if d.resourceType == "raw" {
		format = strings.ToLower(strings.TrimPrefix(path.Ext(f.fileName()), "."))
	}
	switch {
	case len(allowed) == 0 || slices.Contains(allowed, format):
		return nil
	case format == "":
		return fail(http.StatusBadRequest, "An unknown file format not allowed")
	default:
		return fail(http.StatusBadRequest, fmt.Sprintf("%s file format %s not allowed", d.resourceType, format))
	}
}

func (s *Sim) compose(f *form, d draft, now time.Time) asset {
	a := asset{
		identity:  identity{ResourceType: d.resourceType, Type: f.deliveryType(), PublicID: f.publicID(d)},
		UpdatedAt: now, ReadyAt: now,
		Blobs: d.blobs, Bytes: d.size, ETag: d.etag, ContentType: d.contentType,
		AssetFolder: f.get("asset_folder"), DisplayName: f.get("display_name"),
	}
	if d.resourceType != "raw" {
		a.Format = d.format
	}
	if d.resourceType == "image" {
		content := s.files.Open(d.blobs...)
		if config, _, err := image.DecodeConfig(content); err == nil {
			a.Width, a.Height = config.Width, config.Height
		}
		content.Close()
	}
	if !f.flag("discard_original_filename", false) {
		a.OriginalFilename = stem(f.fileName())
	}
	if a.DisplayName == "" {
		a.DisplayName = path.Base(a.PublicID)
	}
	a.annotate(f)
	return a
}

// annotate sets what may also be set later, by explicit.
func (a *asset) annotate(f *form) {
	if _, ok := f.params["tags"]; ok || a.Tags == nil {
		a.Tags = f.list("tags")
	}
	if context := f.get("context"); context != "" {
		a.Context = pairs(context)
	}
	if metadata := f.get("metadata"); metadata != "" {
		a.Metadata = pairs(metadata)
	}
	if ac := f.get("access_control"); ac != "" {
		a.AccessControl = json.RawMessage(ac)
	}
}

// pairs reads k=v|k=v, where a backslash takes = and | by the letter.
func pairs(text string) map[string]string {
	found := map[string]string{}
	var key, part strings.Builder
	inValue, escaped := false, false
	end := func() {
		if inValue {
			found[key.String()] = part.String()
		}
		key.Reset()
		part.Reset()
		inValue = false
	}
	for _, c := range text {
		switch {
		case escaped:
			part.WriteRune(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == '=' && !inValue:
			key.WriteString(part.String())
			part.Reset()
			inValue = true
		case c == '|':
			end()
		default:
			part.WriteRune(c)
		}
	}
	end()
	return found
}

// spend takes one from a counter of faults; ok is whether there was one to take.
func (s *Sim) spend(counter func(*Settings) *int) (settings Settings, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := counter(&s.settings); *n > 0 {
		*n--
		ok = true
	}
	return s.settings, ok
}
