package uploadcare

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"time"

	"slipway/internal/providersim"
)

// latestUnix is the latest expire taken for seconds, in the year 5138; milliseconds are above it.
const latestUnix = 99_999_999_999

// uploadRoutes serves the Upload API.
func (s *Sim) uploadRoutes() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := s.uploadCall(r, h)
			if err != nil {
				writeUploadError(w, r, err)
				return
			}
			writeJSON(w, http.StatusOK, "application/json", answer)
		})
	}
	route("POST /base/{$}", s.direct)
	route("POST /multipart/start/{$}", s.start)
	route("POST /multipart/complete/{$}", s.complete)
	route("GET /info/{$}", s.info)
	route("POST /from_url/{$}", s.fromURL)
	route("GET /from_url/{$}", s.fromURL)
	route("GET /from_url/status/{$}", s.fromURLStatus)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { writeUploadError(w, r, errMethod) })

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Uploadcare-Request-Id", newUUID())
		if openToPages(w, r, "Retry-After, Warning, X-Uploadcare-Request-Id") {
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *Sim) uploadCall(r *http.Request, h func(*http.Request) (any, error)) (any, error) {
	if e := s.throttle(); e != nil {
		return nil, e
	}
	return h(r)
}

// openToPages lets a page of any origin use the answer (CORS). On true it has answered the
// browser's preflight.
func openToPages(w http.ResponseWriter, r *http.Request, exposed string) bool {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", exposed)
	if r.Method != http.MethodOptions {
		return false
	}
	h.Set("Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, POST, PUT")
	h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

// direct takes whole files in one request. The answer's keys are the names of the form fields.
func (s *Sim) direct(r *http.Request) (answer any, err error) {
	f, err := s.readForm(r)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard(f))
		}
	}()
	if err != nil {
		return nil, err
	}
	common, err := s.admit(f, "UPLOADCARE_PUB_KEY", "UPLOADCARE_STORE")
	if err != nil {
		return nil, err
	}
	if len(f.files) == 0 {
		return nil, errNoFiles
	}
	for _, received := range f.files {
		if limit := s.Config().MaxFileSize; limit > 0 && received.blob.Size > limit {
			return nil, errFileTooBig
		}
	}
	ids := map[string]string{}
	for _, received := range f.files {
		one := common
		one.Name, one.MimeType = shortName(received.name), received.mimeType
		id := newUUID()
		a, err := s.newAsset(id, one, []providersim.Blob{received.blob})
		if err != nil {
			return nil, err
		}
		if err := s.appear(a); err != nil {
			return nil, err
		}
		ids[received.field] = id
	}
	return ids, nil
}

// admit checks what every upload needs: key, account, signature, store mode, metadata, tags.
func (s *Sim) admit(f form, keyField, storeField string) (file, error) {
	if err := s.checkKey(f, keyField); err != nil {
		return file{}, err
	}
	c := s.Config()
	if c.Account != "" {
		return file{}, accountErrors[c.Account]
	}
	if c.SignedUploads {
		if err := s.checkUploadSignature(f); err != nil {
			return file{}, err
		}
	}
	var one file
	switch f.Get(storeField) {
	case "1", "true":
		if !c.Autostore {
			return file{}, errAutostoreOff
		}
		one.Store = true
	case "0", "false":
	default:
		one.Store = c.Autostore
	}
	var err error
	if one.Metadata, err = f.metadata(); err != nil {
		return file{}, err
	}
	one.Tags, err = f.tags()
	return one, err
}

func (s *Sim) checkKey(f form, field string) error {
	switch key := f.Get(field); {
	case key == "":
		return refuse(403, "ProjectPublicKeyRequiredError", "%s is required.", field)
	case !sameText(key, s.publicKey):
		return refuse(403, "ProjectPublicKeyInvalidError", "%s is invalid.", field)
	}
	return nil
}

// checkUploadSignature checks signature and expire ("Upload control with signed uploads").
func (s *Sim) checkUploadSignature(f form) error {
	signature, expire := f.Get("signature"), f.Get("expire")
	if signature == "" {
		return errSignatureMissing
	}
	if expire == "" {
		return errExpireMissing
	}
	at, err := strconv.ParseInt(expire, 10, 64)
	if err != nil || at > latestUnix {
		return errExpireMalformed
	}
	if s.clientTime().After(time.Unix(at, 0)) {
		return errSignatureOld
	}
	if !sameText(signature, uploadSignature(s.secretKey, expire)) {
		return errSignatureWrong
	}
	return nil
}

// uploadSignature is the lower-hex HMAC-SHA256 of expire, which is Unix seconds in decimal.
func uploadSignature(secret, expire string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(expire))
	return hex.EncodeToString(mac.Sum(nil))
}

// info shows a file that has not been removed.
func (s *Sim) info(r *http.Request) (any, error) {
	f := form{Values: r.URL.Query()}
	if err := s.checkKey(f, "pub_key"); err != nil {
		return nil, err
	}
	id := f.Get("file_id")
	if id == "" {
		return nil, refuse(400, "FileIdRequiredError", "file_id is required.")
	}
	if !isUUID(id) {
		return nil, errFileIDInvalid
	}
	a, ok := s.asset(id)
	if !ok || a.Removed != nil {
		return nil, errFileNotFound
	}
	return s.uploadView(a), nil
}

// uploadView is the file object of the Upload API.
type uploadView struct {
	UUID             string            `json:"uuid"`
	FileID           string            `json:"file_id"`
	Size             int64             `json:"size"`
	Total            int64             `json:"total"`
	Done             int64             `json:"done"`
	OriginalFilename string            `json:"original_filename"`
	Filename         string            `json:"filename"`
	MimeType         string            `json:"mime_type"`
	IsImage          bool              `json:"is_image"`
	IsStored         bool              `json:"is_stored"`
	IsReady          bool              `json:"is_ready"`
	ImageInfo        *imageInfo        `json:"image_info"`
	VideoInfo        any               `json:"video_info"` // films are not taken apart
	ContentInfo      *contentInfo      `json:"content_info"`
	Metadata         map[string]string `json:"metadata"`
	Tags             []string          `json:"tags"`
}

func (s *Sim) uploadView(a Asset) uploadView {
	return uploadView{
		UUID: a.UUID, FileID: a.UUID, Size: a.Size, Total: a.Size, Done: a.Size,
		OriginalFilename: a.Name, Filename: safeName(a.Name), MimeType: a.MimeType,
		IsImage: a.Image != nil, IsStored: a.Stored != nil, IsReady: a.readyAt(s.Controls.Clock.Now()),
		ImageInfo: a.imageInfo(), ContentInfo: a.contentInfo(),
		Metadata: notNil(a.Metadata), Tags: append([]string{}, a.Tags...),
	}
}

func shortName(name string) string {
	if r := []rune(name); len(r) > maxName {
		return string(r[:maxName])
	}
	return name
}
