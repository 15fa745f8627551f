package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/quota"
	"slipway/internal/upload"
)

// openWithRoom is open for a service whose staging may hold so many bytes.
func openWithRoom(t *testing.T, budget int64) *site {
	t.Helper()
	return open(t, func(a *API, _ *Options) {
		a.Ingest.MaxBytes = budget
		a.Quotas = quota.New(a.Pool, postgres.Limits{}, a.Ingest.Log)
		a.Quotas.Disk, a.Quotas.Budget, a.Quotas.Patience = a.Ingest.Staging, budget, 100*time.Millisecond
		a.Ingest.Quotas = a.Quotas
	})
}

func wantWait(t *testing.T, what string, h http.Header) {
	t.Helper()
	if after, err := strconv.Atoi(h.Get("Retry-After")); err != nil || after < 1 || after > 10 {
		t.Errorf("%s: Retry-After is %q, want some seconds", what, h.Get("Retry-After"))
	}
}

func TestWhoFindsNoRoomIsToldBeforeTheBytes(t *testing.T) {
	s := openWithRoom(t, 10*mib)
	hold, err := s.api.Quotas.Hold(t.Context(), "bob", upload.NewID(), 8*mib)
	must(t, err)
	length := fmt.Sprintf("Content-Length: %d\r\n", 4*mib)
	form := "Content-Type: multipart/form-data; boundary=b\r\n" + length
	part := "\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n"
	for what, request := range map[string]string{
		"a body":       "POST /v1/uploads HTTP/1.1\r\n" + length + "\r\n",
		"a form":       "POST /v1/uploads HTTP/1.1\r\n" + form + part,
		"the guide's":  "POST /upload HTTP/1.1\r\n" + form + part,
		"an early one": "POST /upload HTTP/1.1\r\n" + form + "\r\n",
	} {
		line, rest, _ := strings.Cut(request, "\r\n")
		c := s.dial(t)
		c.send(line + "\r\nHost: localhost\r\nAuthorization: Bearer " + tokenOf(t, "alice") + "\r\n" + rest + strings.Repeat("x", 9<<10))
		r, err := c.read("POST")
		if err != nil || r.StatusCode != http.StatusInsufficientStorage {
			t.Errorf("%s: got %v, %v, want 507 at once", what, r.Response, err)
			continue
		}
		wantWait(t, what, r.Header)
	}
	hold.Release()
	for _, body := range []string{"hello", strings.Repeat("x", 9*mib)} {
		if r := s.do(t, "POST", "/v1/uploads", strings.NewReader(body)); r.StatusCode != http.StatusAccepted {
			t.Errorf("when there is room again: %d %s", r.StatusCode, r.text)
		}
	}
	wantCode(t, s.do(t, "POST", "/v1/uploads", strings.NewReader(strings.Repeat("x", 10*mib+1))), http.StatusRequestEntityTooLarge, upload.TooLarge)
}

func TestAFileWhoseLengthNobodyKnewEndsWhereTheRoomDoes(t *testing.T) {
	s := openWithRoom(t, 10*mib)
	hold, err := s.api.Quotas.Hold(t.Context(), "bob", upload.NewID(), 8*mib)
	must(t, err)
	chunked := func(size int) reply {
		return s.do(t, "POST", "/v1/uploads", unsized{strings.NewReader(strings.Repeat("x", size))})
	}
	r := chunked(4 * mib)
	wantCode(t, r, http.StatusInsufficientStorage, upload.NoRoom)
	wantWait(t, "in its middle", r.Header)
	s.wantNoTrace(t)
	if r := chunked(mib); r.StatusCode != http.StatusAccepted {
		t.Errorf("what fits: %d %s", r.StatusCode, r.text)
	}
	hold.Release()
	if r := chunked(7 * mib); r.StatusCode != http.StatusAccepted {
		t.Errorf("when there is room again: %d %s", r.StatusCode, r.text)
	}
}

func TestReadinessTellsOperatorsHowTheRoomIsUsed(t *testing.T) {
	s := openWithRoom(t, 10*mib)
	_, err := s.api.Quotas.Hold(t.Context(), "bob", upload.NewID(), 8*mib)
	must(t, err)
	r := s.do(t, "POST", "/v1/uploads", strings.NewReader(strings.Repeat("x", 4*mib)))
	wantCode(t, r, http.StatusInsufficientStorage, upload.NoRoom)
	ask := func(as string) *roomCheck {
		return into[readiness](t, s.do(t, "GET", "/readyz?verbose", nil, as), http.StatusOK).Staging.Room
	}
	for who, as := range map[string]string{
		"a user": as(t, "alice"), "nobody": as(t, ""), "a server": "Authorization: Bearer " + s.apiKey(t, auth.ActScope),
	} {
		if ask(as) != nil {
			t.Errorf("%s sees how others use it", who)
		}
	}
	room := ask("Authorization: Bearer " + s.apiKey(t, auth.AdminScope))
	if room == nil || room.Budget == nil || *room.Budget != 10*mib || room.StagedBytes != 0 || room.HeldBytes != 8*mib || room.LeftBytes != 2*mib ||
		room.WaitingFiles != 1 || room.DrainPerSecond != nil {
		t.Errorf("got %+v", room)
	}
}

// left is how many bytes there is room for, once what was taken for small files is given back.
func (s *site) left(t *testing.T) int64 {
	t.Helper()
	s.api.Quotas.Close()
	_, left, err := s.api.Quotas.Room(t.Context())
	must(t, err)
	return left
}

func TestAResumableUploadHoldsItsRoomToItsEnd(t *testing.T) {
	tus := func(s *site, t *testing.T, method, path, body string, headers ...string) reply {
		return s.do(t, method, path, strings.NewReader(body), append(headers, "Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream")...)
	}
	create := func(s *site, t *testing.T, how string) (path string) {
		r := tus(s, t, "POST", "/v1/tus/", "", how)
		if r.StatusCode != http.StatusCreated {
			t.Fatalf("got %d %s, want 201", r.StatusCode, r.text)
		}
		return r.Header.Get("Location")
	}
	id := func(path string) string { return path[strings.LastIndex(path, "/")+1:] }
	const six = "Upload-Length: 6291456"
	for name, tt := range map[string]struct {
		how  string
		end  func(s *site, t *testing.T, path string)
		left int64 // bytes of 10 MiB, in the end
	}{
		"one that is terminated": {six, func(s *site, t *testing.T, path string) { tus(s, t, "DELETE", path, "") }, 10 * mib},
		"one that is canceled":   {six, func(s *site, t *testing.T, path string) { s.do(t, "POST", "/v1/uploads/"+id(path)+"/cancel", nil) }, 10 * mib},
		"one that is deleted":    {six, func(s *site, t *testing.T, path string) { s.do(t, "DELETE", "/v1/uploads/"+id(path), nil) }, 10 * mib},
		"one that expires": {six, func(s *site, t *testing.T, path string) {
			_, err := s.pool.Exec(t.Context(), `UPDATE slipway.uploads SET expires_at = now() - interval '1 second'`)
			must(t, err)
			_, err = postgres.ExpireUnfinished(t.Context(), s.pool, 10)
			must(t, err)
		}, 10 * mib},
		"one that is received": {six, func(s *site, t *testing.T, path string) {
			tus(s, t, "PATCH", path, strings.Repeat("x", 3*mib), "Upload-Offset: 0")
			if left := s.left(t); left != 4*mib {
				t.Errorf("in between there is room for %d bytes, want %d", left, 4*mib)
			}
			tus(s, t, "PATCH", path, strings.Repeat("x", 3*mib), fmt.Sprintf("Upload-Offset: %d", 3*mib))
		}, 4 * mib},
		"one whose length is said later": {"Upload-Defer-Length: 1", func(s *site, t *testing.T, path string) {
			tus(s, t, "PATCH", path, strings.Repeat("x", 5*mib), "Upload-Offset: 0")
			if left := s.left(t); left > 5*mib {
				t.Errorf("in between there is room for %d bytes, want at most %d", left, 5*mib)
			}
			wantCode(t, tus(s, t, "POST", "/v1/tus/", "", six), http.StatusInsufficientStorage, upload.NoRoom)
			tus(s, t, "PATCH", path, strings.Repeat("x", mib), fmt.Sprintf("Upload-Offset: %d", 5*mib), six)
		}, 4 * mib},
		"one that grows too long": {"Upload-Defer-Length: 1", func(s *site, t *testing.T, path string) {
			hold, err := s.api.Quotas.Hold(t.Context(), "bob", upload.NewID(), 7*mib)
			must(t, err)
			r := tus(s, t, "PATCH", path, strings.Repeat("x", 4*mib), "Upload-Offset: 0")
			wantCode(t, r, http.StatusInsufficientStorage, upload.NoRoom)
			wantWait(t, "in its middle", r.Header)
			hold.Release()
			at, err := strconv.Atoi(tus(s, t, "HEAD", path, "").Header.Get("Upload-Offset"))
			if err != nil || at < 2*mib {
				t.Errorf("%d bytes of it are kept, %v", at, err)
			}
			tus(s, t, "PATCH", path, strings.Repeat("x", 6*mib-at), fmt.Sprintf("Upload-Offset: %d", at), six)
		}, 4 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openWithRoom(t, 10*mib)
			path := create(s, t, tt.how)
			if tt.how == six {
				r := tus(s, t, "POST", "/v1/tus/", "", six)
				wantCode(t, r, http.StatusInsufficientStorage, upload.NoRoom)
				wantWait(t, "a second one", r.Header)
			}
			tt.end(s, t, path)
			if left := s.left(t); left != tt.left {
				t.Errorf("in the end there is room for %d bytes, want %d", left, tt.left)
			}
		})
	}
}
