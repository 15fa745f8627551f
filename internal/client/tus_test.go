package client

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"slipway/internal/crc32c"
	"slipway/internal/upload"
)

// tusService is a service that takes one upload, and keeps its sum.
type tusService struct {
	faults map[string][]http.HandlerFunc // answers to the next requests with a method
	always map[string]http.HandlerFunc   // to all of them

	mu       sync.Mutex
	asked    []string // methods
	token    string
	metadata string
	key      string
	size     int64
	received int64
	crc      uint32
	gone     bool
	garbled  bool // the sum is another than that of what came
}

func faults(method string, list ...http.HandlerFunc) map[string][]http.HandlerFunc {
	return map[string][]http.HandlerFunc{method: list}
}

// brokenAfter is a header that a fault leaves in a request, which the service acts on.
const brokenAfter = "Broken-After"

// after breaks the connection when the upload has n bytes.
func after(n int64) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) { r.Header.Set(brokenAfter, strconv.FormatInt(n, 10)) }
}

// lostAnswer breaks the connection when all is done.
func lostAnswer(_ http.ResponseWriter, r *http.Request) { r.Header.Set(brokenAfter, "-1") }

// gone ends the connection before a byte of the body.
func gone(w http.ResponseWriter, r *http.Request) { cut(0)(w, r) }

func (s *tusService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Method)
	s.token = r.Header.Get("Authorization")
	w.Header().Set(headerTusResumable, tusVersion)
	w.Header().Set("Link", "</v1/uploads/"+string(id)+`>; rel="status"`)
	fault := s.always[r.Method]
	if list := s.faults[r.Method]; len(list) > 0 {
		fault, s.faults[r.Method] = list[0], list[1:]
	}
	s.mu.Unlock()
	if fault != nil {
		w.Header().Del(headerTusResumable)
		fault(w, r)
		if r.Header.Get(brokenAfter) == "" {
			return
		}
		w.Header().Set(headerTusResumable, tusVersion)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer(w, r)
	if r.Header.Get(brokenAfter) != "" {
		panic(http.ErrAbortHandler)
	}
}

// methods are those by which it was asked, in their order.
func (s *tusService) methods() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asked, " ")
}

func (s *tusService) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = nil
}

func (s *tusService) answer(w http.ResponseWriter, r *http.Request) {
	ours := r.URL.Path == tusPath+string(id) || r.URL.Path == "/v1/uploads/"+string(id)
	switch {
	case r.URL.Path != tusPath && (!ours || s.key == ""):
		problem(404, upload.NotFound, "")(w, r)
	case s.gone && r.Method != http.MethodPost:
		problem(410, upload.Gone, "")(w, r)
	case r.Method == http.MethodPost:
		if key := r.Header.Get("Idempotency-Key"); key != strconv.Quote(s.key) {
			s.metadata = r.Header.Get("Upload-Metadata")
			size, _ := strconv.ParseInt(r.Header.Get("Upload-Length"), 10, 64)
			s.create(key[1:len(key)-1], size)
			s.take(r)
		}
		w.Header().Set("Location", tusPath+string(id))
		w.Header().Set(headerUploadOffset, strconv.FormatInt(s.received, 10))
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodHead:
		w.Header().Set(headerUploadOffset, strconv.FormatInt(s.received, 10))
		w.Header().Set("Upload-Length", strconv.FormatInt(s.size, 10))
	case r.Method == http.MethodPatch:
		if r.Header.Get(headerUploadOffset) != strconv.FormatInt(s.received, 10) {
			problem(409, upload.OffsetConflict, "")(w, r)
			return
		}
		s.take(r)
		w.Header().Set(headerUploadOffset, strconv.FormatInt(s.received, 10))
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodDelete:
		s.gone = true
		w.WriteHeader(http.StatusNoContent)
	default:
		status := upload.Receiving
		if s.received == s.size {
			status = upload.Queued
		}
		if s.garbled {
			s.crc++
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":%q,"status":%q,"size":%d,"crc32c":%q}`, id, status, s.size, crc32c.Base64(s.crc))
	}
}

func (s *tusService) create(key string, size int64) {
	s.key, s.size, s.received, s.crc, s.gone = key, size, 0, 0, false
}

// take adds the body of a request, as far as it comes.
func (s *tusService) take(r *http.Request) {
	most := s.size
	if n, err := strconv.ParseInt(r.Header.Get(brokenAfter), 10, 64); err == nil && n >= 0 {
		most = min(most, n)
	}
	s.addFrom(io.LimitReader(r.Body, most-s.received))
}

// add adds what stands in a file up to a place.
func (s *tusService) add(file io.ReaderAt, to int64) {
	s.addFrom(io.NewSectionReader(file, s.received, to-s.received))
}

func (s *tusService) addFrom(r io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := r.Read(buffer)
		s.crc = crc32c.Update(s.crc, buffer[:n])
		s.received += int64(n)
		if err != nil {
			return
		}
	}
}
