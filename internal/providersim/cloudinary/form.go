package cloudinary

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"slipway/internal/providersim"
)

const (
	maxFields  = 4 << 20    // bytes of parameters in one request
	maxDataURI = 62_910_000 // bytes of a data URI (Upload guide)
	bodyBuffer = 256 << 10  // bytes of a body read at a time
	formRoom   = 1 << 20    // bytes that a request may need beside the file
)

// params are the parameters of a request, arrays in the order of their indexes.
type params map[string][]string

// get is a parameter's value, an array joined with commas.
func (p params) get(name string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(p[name]), func(v string) bool { return v == "" }), ",")
}

func (p params) names() []string { return slices.Sorted(maps.Keys(p)) }

// flag reads a boolean as the SDKs write it, true or 1.
func (p params) flag(name string, otherwise bool) bool {
	switch p.get(name) {
	case "true", "1":
		return true
	case "false", "0":
		return false
	default:
		return otherwise
	}
}

// list is a parameter that is an array or one comma-separated value.
func (p params) list(name string) []string {
	items := []string{}
	for v := range strings.SplitSeq(p.get(name), ",") {
		if v = strings.TrimSpace(v); v != "" {
			items = append(items, v)
		}
	}
	return items
}

// arrayKey takes apart name[] and name[2], as Node and Go write arrays.
var arrayKey = regexp.MustCompile(`^(.+)\[(\d*)\]$`)

func gather(raw url.Values) params {
	p := params{}
	names := slices.SortedFunc(maps.Keys(raw), func(a, b string) int {
		return cmp.Or(cmp.Compare(arrayIndex(a), arrayIndex(b)), cmp.Compare(a, b))
	})
	for _, name := range names {
		plain := name
		if m := arrayKey.FindStringSubmatch(name); m != nil {
			plain = m[1]
		}
		p[plain] = append(p[plain], raw[name]...)
	}
	return p
}

func arrayIndex(name string) int {
	m := arrayKey.FindStringSubmatch(name)
	if m == nil || m[2] == "" {
		return 0
	}
	i, err := strconv.Atoi(m[2])
	if err != nil {
		return 0
	}
	return i
}

// form is a request that has been read: its parameters, and its file on disk.
type form struct {
	params
	file     *file      // nil when the request had none
	chunk    *byteRange // nil when it is not part of a chunked upload
	uploadID string     // X-Unique-Upload-Id
}

// file is what arrived under the name "file".
type file struct {
	blob providersim.Blob
	head []byte // the first bytes, to tell the content by
	name string

	before, after []byte // running MD5 around a chunk; nil when the bytes before it are not there
	kept          bool   // an asset or a partial has taken the blob
}

// spare are the blobs that nothing has taken.
func (f *form) spare() []providersim.Blob {
	if f.file == nil || f.file.kept {
		return nil
	}
	return []providersim.Blob{f.file.blob}
}

// byteRange is a Content-Range; total is -1 while the client does not know it.
type byteRange struct{ start, end, total int64 }

var contentRange = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+|-1|\*)$`)

func parseRange(header string) (*byteRange, error) {
	m := contentRange.FindStringSubmatch(header)
	if m == nil {
		return nil, fail(http.StatusBadRequest, "Invalid Content-Range - "+header)
	}
	rng := byteRange{total: -1}
	var errs [3]error
	rng.start, errs[0] = strconv.ParseInt(m[1], 10, 64)
	rng.end, errs[1] = strconv.ParseInt(m[2], 10, 64)
	if m[3] != "*" {
		rng.total, errs[2] = strconv.ParseInt(m[3], 10, 64)
	}
	if errors.Join(errs[:]...) != nil || rng.end < rng.start || rng.total >= 0 && rng.end >= rng.total {
		return nil, fail(http.StatusBadRequest, "Invalid Content-Range - "+header)
	}
	return &rng, nil
}

func (b byteRange) size() int64 { return b.end - b.start + 1 }

func (b byteRange) last() bool { return b.end+1 == b.total }

// receive reads a request to its end, the file to disk. On an error nothing is kept.
func (s *Sim) receive(r *http.Request) (*form, error) {
	limit := s.Settings().MaxRequest
	if r.ContentLength > limit+formRoom {
		return nil, errTooLarge
	}
	f := &form{uploadID: strings.Join(r.Header.Values("X-Unique-Upload-Id"), ",")}
	var rangeErr error
	if header := r.Header.Get("Content-Range"); header != "" {
		f.chunk, rangeErr = parseRange(header)
	}
	values, err := s.readBody(r, f, limit)
	if err == nil {
		err = rangeErr
	}
	if err != nil {
		return nil, errors.Join(err, s.files.Remove(f.spare()...))
	}
	for name, v := range r.URL.Query() {
		values[name] = append(values[name], v...)
	}
	f.params = gather(values)
	return f, nil
}

var errTooLarge = fail(http.StatusRequestEntityTooLarge, "Request entity too large")

// readBody takes the body in any of the forms that the SDKs send. Go's SDK sends urlencoded
// ones without a Content-Type.
func (s *Sim) readBody(r *http.Request, f *form, limit int64) (url.Values, error) {
	media, options, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		return nil, fail(http.StatusBadRequest, "Invalid Content-Type")
	}
	if media == "multipart/form-data" {
		return s.readMultipart(r, f, options["boundary"], limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxFields+2*maxDataURI))
	if err != nil {
		return nil, fail(http.StatusBadRequest, "Invalid request body")
	}
	var values url.Values
	if media == "application/json" {
		values, err = jsonValues(body)
	} else {
		values, err = url.ParseQuery(string(body))
	}
	if err != nil {
		return nil, fail(http.StatusBadRequest, "Invalid request body")
	}
	if source := values.Get("file"); source != "" {
		err = s.saveSource(r.Context(), f, strings.NewReader(source), limit)
	}
	return values, err
}

// jsonValues flattens a JSON object; an array becomes name[0], name[1], an object its JSON.
func jsonValues(body []byte) (url.Values, error) {
	var fields map[string]any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&fields); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	values := url.Values{}
	for name, v := range fields {
		items, ok := v.([]any)
		if !ok {
			text, err := jsonText(v)
			if err != nil {
				return nil, err
			}
			values.Set(name, text)
			continue
		}
		for i, item := range items {
			text, err := jsonText(item)
			if err != nil {
				return nil, err
			}
			values.Set(fmt.Sprintf("%s[%d]", name, i), text)
		}
	}
	return values, nil
}

func jsonText(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	default:
		text, err := json.Marshal(v)
		return string(text), err
	}
}

func (s *Sim) readMultipart(r *http.Request, f *form, boundary string, limit int64) (url.Values, error) {
	unterminated := fail(http.StatusBadRequest, "Invalid multipart body")
	if boundary == "" {
		return nil, unterminated
	}
	values := url.Values{}
	room := int64(maxFields)
	body := multipart.NewReader(newBuffered(r.Body), boundary)
	for {
		part, err := body.NextRawPart()
		if err == io.EOF {
			return values, nil
		}
		if err != nil {
			return nil, unterminated
		}
		switch name := part.FormName(); {
		case name == "file" && f.file == nil && part.FileName() != "":
			err = s.save(f, part, decodeName(part.FileName()), limit)
		case name == "file" && f.file == nil:
			err = s.saveSource(r.Context(), f, part, limit)
		default:
			var text []byte
			text, err = io.ReadAll(io.LimitReader(part, room))
			if room -= int64(len(text)); room <= 0 {
				return nil, errTooLarge
			}
			values[name] = append(values[name], string(text))
		}
		var no *refusal
		if errors.As(err, &no) {
			return nil, err
		}
		if err != nil {
			return nil, errors.Join(unterminated, err)
		}
	}
}

// decodeName reads a file name that is not UTF-8 as Latin-1, which is what Node's SDK writes.
func decodeName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	runes := make([]rune, 0, len(name))
	for _, b := range []byte(name) {
		runes = append(runes, rune(b))
	}
	return string(runes)
}
