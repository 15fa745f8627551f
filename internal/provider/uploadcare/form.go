package uploadcare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare/sign"
)

// What one file may carry (Docs, "File metadata management" and "File tags").
const (
	maxTags      = 50
	maxTagLength = 100
	maxMetadata  = 50
	maxValue     = 512 // characters
)

var (
	metadataKey = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
	tagForm     = regexp.MustCompile(`^[a-z0-9._-]+$`)
)

// uploadFields are those that both ways of uploading share. The signature is always there; a
// project that does not demand it ignores it.
func (p *Provider) uploadFields(src provider.Source) url.Values {
	expire := time.Now().Add(30 * time.Minute)
	v := url.Values{
		"UPLOADCARE_PUB_KEY": {p.opts.PublicKey},
		"UPLOADCARE_STORE":   {"0"},
		"signature":          {sign.Upload(p.opts.SecretKey, expire)},
		"expire":             {strconv.FormatInt(expire.Unix(), 10)},
		"source":             {"local"},
	}
	for key, value := range metadata(src) {
		v.Set("metadata["+key+"]", value)
	}
	if tags := tags(src.Tags); len(tags) > 0 {
		v.Set("tags", strings.Join(tags, ","))
	}
	return v
}

// metadata is the user's, as far as Uploadcare takes it, and whose the file is where there is room.
func metadata(src provider.Source) map[string]string {
	m := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(src.Metadata)) {
		value := src.Metadata[key]
		n := utf8.RuneCountInString(value)
		if metadataKey.MatchString(key) && n >= 1 && n <= maxValue && plainText(value) && len(m) < maxMetadata {
			m[key] = value
		}
	}
	ours := []struct{ key, value string }{{sign.Key, src.Key}, {"upload_id", string(src.UploadID)}}
	for _, o := range ours {
		if _, taken := m[o.key]; o.value != "" && (taken || len(m) < maxMetadata) {
			m[o.key] = o.value
		}
	}
	return m
}

func plainText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

func tags(list []string) []string {
	var fit []string
	for _, tag := range list {
		tag = strings.ToLower(tag)
		if len(tag) <= maxTagLength && tagForm.MatchString(tag) && !slices.Contains(fit, tag) && len(fit) < maxTags {
			fit = append(fit, tag)
		}
	}
	return fit
}

// fileName is s as it may stand between the quotes of a part header, at most 255 bytes with its
// extension kept. Letters of any script stay.
func fileName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\' || r == '/' || r == utf8.RuneError || unicode.IsControl(r):
			return '_'
		}
		return r
	}, s)
	if s == "" || s == "." || s == ".." {
		return "file"
	}
	const most = 255
	if len(s) <= most {
		return s
	}
	ext := path.Ext(s)
	if len(ext) > 20 {
		ext = ""
	}
	stem := s[:most-len(ext)]
	for !utf8.ValidString(stem) {
		stem = stem[:len(stem)-1]
	}
	return stem + ext
}

func contentType(src provider.Source) string {
	if _, _, err := mime.ParseMediaType(src.ContentType); err != nil {
		return "application/octet-stream"
	}
	return src.ContentType
}

// form is a small request's body.
type form url.Values

// EncodeReq implements ucare.ReqEncoder; a replayed request encodes again.
func (f form) EncodeReq(req *http.Request) error {
	s := url.Values(f).Encode()
	req.Body = io.NopCloser(strings.NewReader(s))
	req.ContentLength = int64(len(s))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return nil
}

// stream is a range of the staged file as the body of a request, in a form or bare. Each try opens
// it anew; once the request has returned, it knows what the last try sent.
type stream struct {
	src            *staged
	offset, length int64
	md5            bool
	contentType    string
	head, tail     []byte

	last *provider.Body
}

func newStream(src provider.Source, offset, length int64) *stream {
	return &stream{src: &staged{file: src.Body}, offset: offset, length: length, contentType: contentType(src)}
}

// inForm puts the stream behind fields, as the file "file".
func (s *stream) inForm(fields url.Values, name string) error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if err := w.WriteField(key, fields.Get(key)); err != nil {
			return err
		}
	}
	_, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf(`form-data; name="file"; filename="%s"`, fileName(name))},
		"Content-Type":        {s.contentType},
	})
	if err != nil {
		return err
	}
	cut := b.Len()
	if err := w.Close(); err != nil {
		return err
	}
	s.head, s.tail = b.Bytes()[:cut], b.Bytes()[cut:]
	s.contentType = w.FormDataContentType()
	return nil
}

func (s *stream) open() (io.ReadCloser, error) {
	body := provider.NewBody(s.src, s.offset, s.length)
	if s.md5 {
		if _, err := body.WithMD5(nil); err != nil {
			return nil, err
		}
	}
	s.last = body
	return io.NopCloser(io.MultiReader(bytes.NewReader(s.head), body, bytes.NewReader(s.tail))), nil
}

// EncodeReq implements ucare.ReqEncoder.
func (s *stream) EncodeReq(req *http.Request) (err error) {
	req.ContentLength = int64(len(s.head)) + s.length + int64(len(s.tail))
	req.Header.Set("Content-Type", s.contentType)
	req.Body, err = s.open()
	return err
}

// staged remembers what was wrong with the staged file, which is nobody else's fault.
type staged struct {
	file io.ReaderAt
	err  error
}

func (s *staged) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.file.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	s.err = err
	return n, err
}
