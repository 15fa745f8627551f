package uploadcare

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/providersim"
)

const (
	// maxDirect bounds a request to /base/, 100 MB (Upload API reference, "Direct uploads").
	maxDirect = 100 << 20
	// maxText bounds the text fields of a form together, in bytes, and maxFields their number.
	maxText   = 256 << 10
	maxFields = 200

	maxMetadataKeys  = 50
	maxMetadataValue = 512
	maxTags          = 50
	maxTag           = 100
)

// form is a request's form: texts in memory, files on disk.
type form struct {
	url.Values
	files []formFile
}

type formFile struct {
	field, name, mimeType string
	blob                  providersim.Blob
}

// readForm reads the query and the body, in either encoding and in any order of fields. The
// files are saved; who calls it removes those that become no asset, also with an error.
func (s *Sim) readForm(r *http.Request) (form, error) {
	f := form{Values: r.URL.Query()}
	if r.ContentLength > maxDirect {
		return f, errRequestTooLarge
	}
	body := http.MaxBytesReader(nil, r.Body, maxDirect)
	mediaType, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var err error
	switch mediaType {
	case "multipart/form-data":
		err = s.readMultipart(multipart.NewReader(body, params["boundary"]), &f)
	case "application/x-www-form-urlencoded":
		err = f.readEncoded(body)
	}
	if err != nil {
		return f, formError(err)
	}
	for name, values := range f.Values {
		if strings.ContainsRune(name, 0) || strings.ContainsRune(strings.Join(values, ""), 0) {
			return f, errNull
		}
	}
	return f, nil
}

// formError tells the simulator's own trouble and refusals from a body that cannot be read.
func formError(err error) error {
	var known *refusal
	var tooLarge *http.MaxBytesError
	var own *diskError
	switch {
	case errors.As(err, &known), errors.As(err, &own):
		return err
	case errors.As(err, &tooLarge):
		return errRequestTooLarge
	default:
		return errForm
	}
}

// diskError is a failure to keep a body, as opposed to a failure to read it.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

func (f *form) readEncoded(body io.Reader) error {
	raw, err := io.ReadAll(io.LimitReader(body, maxText+1))
	if err != nil {
		return err
	}
	if len(raw) > maxText {
		return errManyFields
	}
	values, err := url.ParseQuery(string(raw))
	if err != nil {
		return err
	}
	for name, list := range values {
		f.Values[name] = append(list, f.Values[name]...)
	}
	return nil
}

func (s *Sim) readMultipart(parts *multipart.Reader, f *form) error {
	left := int64(maxText)
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if n == maxFields {
			return errManyFields
		}
		if part.FileName() == "" {
			text, err := io.ReadAll(io.LimitReader(part, left+1))
			if err != nil {
				return err
			}
			if left -= int64(len(text)); left < 0 {
				return errManyFields
			}
			f.Add(part.FormName(), string(text))
			continue
		}
		blob, err := s.save(part)
		if err != nil {
			return err
		}
		file := formFile{field: part.FormName(), name: part.FileName(), mimeType: part.Header.Get("Content-Type"), blob: blob}
		if file.mimeType == "" {
			file.mimeType = "application/octet-stream"
		}
		f.files = append(f.files, file)
	}
}

// save keeps what body brings. An error of body itself is returned as it is.
func (s *Sim) save(body io.Reader) (providersim.Blob, error) {
	watched := &watchedReader{Reader: body}
	blob, err := s.files.Save(watched)
	if err != nil && watched.err != nil {
		return blob, watched.err
	}
	if err != nil {
		return blob, &diskError{err}
	}
	return blob, nil
}

type watchedReader struct {
	io.Reader
	err error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// discard removes the files of a form that became no asset.
func (s *Sim) discard(f form) error {
	for _, file := range f.files {
		if err := s.files.Remove(file.blob); err != nil {
			return err
		}
	}
	return nil
}

var metadataKey = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

// metadata reads the fields metadata[<key>] ("File metadata management").
func (f form) metadata() (map[string]string, error) {
	all := map[string]string{}
	for name, values := range f.Values {
		key, ok := strings.CutPrefix(name, "metadata[")
		if !ok {
			continue
		}
		if key, ok = strings.CutSuffix(key, "]"); !ok {
			continue
		}
		switch value := values[0]; {
		case key == "":
			return nil, refuse(400, "FileMetadataKeyEmptyError", "Metadata key can not be empty.")
		case len(key) > 64:
			return nil, refuse(400, "FileMetadataKeyLengthTooBigError", "Metadata key is too long.")
		case !metadataKey.MatchString(key):
			return nil, refuse(400, "FileMetadataKeyForbiddenError", "Metadata key contains forbidden characters.")
		case len(values) > 1:
			return nil, refuse(400, "FileMetadataKeyDuplicatedError", "Metadata key is duplicated.")
		case value == "":
			return nil, refuse(400, "FileMetadataValueEmptyError", "Metadata value can not be empty.")
		case len([]rune(value)) > maxMetadataValue:
			return nil, refuse(400, "FileMetadataValueLengthTooBigError", "Metadata value is too long.")
		default:
			all[key] = value
		}
	}
	if len(all) > maxMetadataKeys {
		return nil, refuse(400, "FileMetadataKeysNumberTooBigError", "Too many metadata keys.")
	}
	return all, nil
}

var tagPattern = regexp.MustCompile(`^[a-z0-9._-]+$`)

// tags reads the comma-separated field tags ("File tags").
func (f form) tags() ([]string, error) {
	var tags []string
	for tag := range strings.SplitSeq(f.Get("tags"), ",") {
		tag = strings.ToLower(strings.TrimSpace(tag))
		if tag == "" || slices.Contains(tags, tag) {
			continue
		}
		if len(tag) > maxTag || !tagPattern.MatchString(tag) {
			return nil, refuse(400, "UploadViewsError", "Invalid tag.")
		}
		tags = append(tags, tag)
	}
	if len(tags) > maxTags {
		return nil, refuse(400, "UploadViewsError", "Too many tags.")
	}
	return tags, nil
}
