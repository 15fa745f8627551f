package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

const (
	fileField = "file"

	maxFields     = 100
	maxFieldBytes = 64 << 10 // all text fields together

	maxDisposition = 4 << 10 // bytes of the header that names a part

	// formOverhead is the most a form may hold beside the file: the fields, and what frames them.
	formOverhead = maxFieldBytes + 192<<10
)

// filePart is the file of a form while it arrives. Reads fill the caller's buffer.
type filePart struct {
	io.Reader
	Name        string // as the client gave it, not yet judged; empty if it gave none
	ContentType string // as the client gave it
}

// readForm reads the request as a form with a file of at most limit bytes; see parseForm.
func (s *Server) readForm(c *fiber.Ctx, limit int64, onFile func(filePart, url.Values) error) (url.Values, error) {
	b, err := s.open(c, limit, formOverhead)
	if err != nil {
		return nil, err
	}
	return parseForm(b, c.Get(fiber.HeaderContentType), limit, onFile)
}

// parseForm reads a multipart/form-data body as it comes: text fields before and after one file in the
// field "file". It calls onFile once, when the file begins, with the fields that came before it; what
// onFile leaves unread is skipped, and an error of onFile ends the form. The fields returned are all of them.
//
// Errors are *upload.Error: those of the body; TooLarge for a file of more than limit bytes;
// UnsupportedMedia, NoFile, SeveralFiles, FieldsTooLarge; InvalidRequest for what is not a form.
func parseForm(body io.Reader, contentType string, limit int64, onFile func(filePart, url.Values) error) (url.Values, error) {
	mediaType, params, err := mime.ParseMediaType(contentType)
	if err != nil || mediaType != "multipart/form-data" || params["boundary"] == "" {
		return nil, &upload.Error{Code: upload.UnsupportedMedia, Message: "The body must be multipart/form-data with a boundary.", Cause: err}
	}
	f := &form{toll: &toll{src: body, left: formOverhead}, limit: limit, fields: url.Values{}}
	f.parts = multipart.NewReader(f.toll, params["boundary"])
	for {
		part, err := f.parts.NextPart()
		if err == io.EOF { // an end that comes too early is wrapped
			break
		}
		if err != nil {
			return nil, formError(err)
		}
		if err := f.take(part, onFile); err != nil {
			return nil, err
		}
	}
	if _, err := io.Copy(io.Discard, f.toll); err != nil { // the last boundary is not the end of the body
		return nil, formError(err)
	}
	if !f.hasFile {
		return nil, noFile(`The form has no file; send it in the field "file".`)
	}
	return f.fields, nil
}

// form is a form in the middle of its parts.
type form struct {
	toll    *toll
	parts   *multipart.Reader
	limit   int64
	fields  url.Values
	bytes   int // of the fields so far, names included
	count   int
	hasFile bool
}

func (f *form) take(part *multipart.Part, onFile func(filePart, url.Values) error) error {
	d, err := parseDisposition(part.Header.Get("Content-Disposition"))
	if err != nil {
		return err
	}
	if enc := part.Header.Get("Content-Transfer-Encoding"); strings.EqualFold(enc, "base64") {
		return malformed(fmt.Sprintf("The part %q is sent as base64; send its bytes as they are.", d.name), nil)
	}
	if !d.hasFileName && !(d.name == fileField && part.Header.Get("Content-Type") != "") {
		if d.name == fileField {
			return noFile(`The field "file" came as text, not as a file; with curl, write -F "file=@film.mp4".`)
		}
		return f.takeField(d.name, part)
	}

	content := &fileContent{src: part, left: f.limit, limit: f.limit}
	f.toll.free = true
	defer func() { f.toll.free = false }()
	if d.fileName == "" {
		if chosen, err := content.any(); err != nil || !chosen {
			return err // a browser sends an empty part for a file field in which nothing was chosen
		}
	}
	switch {
	case f.hasFile:
		return &upload.Error{Code: upload.SeveralFiles, Message: "The form holds more than one file; send each in a request of its own."}
	case d.name != fileField:
		return noFile(fmt.Sprintf(`The file came in the field %q; send it in the field "file".`, d.name))
	}
	f.hasFile = true
	if err := onFile(filePart{Reader: content, Name: d.fileName, ContentType: part.Header.Get("Content-Type")}, f.fields); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	return nil
}

func (f *form) takeField(name string, part *multipart.Part) error {
	if f.count++; f.count > maxFields {
		return &upload.Error{Code: upload.FieldsTooLarge, Message: fmt.Sprintf("The form has more than %d text fields.", maxFields)}
	}
	value, err := io.ReadAll(io.LimitReader(part, int64(maxFieldBytes-f.bytes)+1))
	if err != nil {
		return formError(err)
	}
	if f.bytes += len(name) + len(value); f.bytes > maxFieldBytes {
		return fieldsTooLarge()
	}
	if !utf8.Valid(value) || !utf8.ValidString(name) {
		return malformed(fmt.Sprintf("The field %q is not UTF-8.", name), nil)
	}
	f.fields.Add(name, string(value))
	return nil
}

// toll bounds what a form may hold beside the file, part headers, preamble and skipped parts included.
type toll struct {
	src  io.Reader
	left int64
	free bool // the bytes are the file's
}

func (t *toll) Read(p []byte) (int, error) {
	if t.left <= 0 && !t.free {
		return 0, fieldsTooLarge()
	}
	n, err := t.src.Read(p)
	if !t.free {
		t.left -= int64(n)
	}
	return n, err
}

// fileContent is the file of a form. It fills the caller's buffer, because a multipart.Part gives at most
// 4 KiB a time and small writes cost half the throughput.
type fileContent struct {
	src   io.Reader
	left  int64
	limit int64
	peek  []byte // a byte that any has read
	err   error
}

// any tells whether there is a first byte.
func (f *fileContent) any() (bool, error) {
	var first [1]byte
	n, err := f.Read(first[:])
	if n == 1 {
		f.peek = first[:]
		return true, nil
	}
	if err == io.EOF {
		err = nil
	}
	return false, err
}

func (f *fileContent) Read(p []byte) (int, error) { return fill(p, f.readSome, time.Now) }

func (f *fileContent) readSome(p []byte) (int, error) {
	if len(f.peek) > 0 {
		n := copy(p, f.peek)
		f.peek = f.peek[n:]
		return n, nil
	}
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.src.Read(p)
	if int64(n) > f.left {
		n, err = int(f.left), tooLarge(f.limit)
	}
	f.left -= int64(n)
	if err != nil && err != io.EOF {
		err = formError(err)
	}
	f.err = err
	return n, err
}

// disposition is what a Content-Disposition header says.
type disposition struct {
	name        string
	fileName    string
	hasFileName bool
}

// parseDisposition reads the header of a part. A name in filename* (RFC 8187) goes before one in filename;
// in the latter browsers escape quotes and line ends as %22, %0D and %0A and nothing else (HTML, "Multipart form data").
func parseDisposition(header string) (disposition, error) {
	if len(header) > maxDisposition {
		return disposition{}, malformed("A part of the form has too long a name.", nil)
	}
	kind, params, err := mime.ParseMediaType(header)
	if err != nil || kind != "form-data" {
		return disposition{}, malformed("A part of the form has no Content-Disposition that can be read.", err)
	}
	d := disposition{name: browserEscapes.Replace(params["name"])}
	d.fileName, d.hasFileName = params["filename"]
	if !strings.Contains(strings.ToLower(header), "filename*") {
		d.fileName = browserEscapes.Replace(d.fileName)
	}
	return d, nil
}

var browserEscapes = strings.NewReplacer("%22", `"`, "%0D", "\r", "%0d", "\r", "%0A", "\n", "%0a", "\n")

// formError passes on an error that has a code; the others come from the syntax of the form.
func formError(err error) error {
	var coded *upload.Error
	if errors.As(err, &coded) {
		return coded
	}
	return malformed("The multipart form could not be read; its last boundary may be missing.", err)
}

func malformed(message string, cause error) error {
	return &upload.Error{Code: upload.InvalidRequest, Message: message, Cause: cause}
}

func noFile(message string) error { return &upload.Error{Code: upload.NoFile, Message: message} }

func fieldsTooLarge() error {
	return &upload.Error{Code: upload.FieldsTooLarge, Message: fmt.Sprintf("The text fields of the form hold more than %s together.", byteSize(maxFieldBytes))}
}
