package cloudinary

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

// chunk is the shortest chunk that smallChunks lets pass when it is not the last, in bytes.
const chunk = 64<<10 + 1

func smallChunks(st *Settings) { st.MinChunk = chunk - 1 }

// sendChunk sends file[start:start+n] of an upload.
func (s *site) sendChunk(id string, file []byte, start, n int) answered {
	s.t.Helper()
	return s.send(sending{
		path: "/video/upload", params: map[string]string{"public_id": "film"}, name: "film.mp4",
		file: file[start : start+n], uploadID: id, chunk: chunkRange(start, n, len(file)),
	})
}

func TestChunkedUpload(t *testing.T) {
	film := bytesOf(2*chunk + 1000)
	other := bytes.Repeat([]byte{7}, chunk)
	type step struct {
		start, n int
		bytes    []byte // sent in place of the film's own
	}
	first, second, last := step{start: 0, n: chunk}, step{start: chunk, n: chunk}, step{start: 2 * chunk, n: 1000}
	tests := map[string][]step{
		"in order":                                 {first, second, last},
		"out of order":                             {second, first, last},
		"the last before the others":               {last, second, first},
		"the same chunk again":                     {first, second, second, last},
		"other bytes replaced by the same range":   {{0, chunk, other}, second, first, last},
		"other bytes replaced after what followed": {{0, chunk, other}, second, {0, chunk, other}, first, last},
		"in one chunk":                             {{start: 0, n: len(film)}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, smallChunks)
			for i, step := range steps {
				sent := film
				if step.bytes != nil {
					sent = bytes.Clone(film)
					copy(sent[step.start:], step.bytes)
				}
				a := s.sendChunk("u1", sent, step.start, step.n)
				if i < len(steps)-1 {
					a.want(t, 200, map[string]any{"done": false, "kind": "upload", "resource_type": "video", "public_id": "film", "asset_id": nil})
					continue
				}
				a.want(t, 200, map[string]any{"done": true, "etag": md5Hex(film), "bytes": len(film), "public_id": "film"})
			}
			if inv := s.Inventory(); inv.Count != 1 || inv.Partials != 0 {
				t.Errorf("inventory %+v", inv)
			}
			if back := s.get(s.url + "/" + testCloud + "/video/upload/v1/film.mp4"); !bytes.Equal(back.raw, film) {
				t.Errorf("other bytes are delivered, status %d", back.StatusCode)
			}
		})
	}
}

func TestChunksAtOnce(t *testing.T) {
	s := open(t, smallChunks)
	film := bytesOf(4 * chunk)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for i := range 4 {
		wg.Go(func() {
			a := s.sendChunk("u1", film, i*chunk, chunk)
			mu.Lock()
			defer mu.Unlock()
			if a.body["done"] == true {
				done++
				a.want(t, 200, map[string]any{"etag": md5Hex(film)})
			}
		})
	}
	wg.Wait()
	if done != 1 {
		t.Errorf("%d answers were the final one", done)
	}
}

func TestChunkIsRefused(t *testing.T) {
	const chunk = 5<<20 + 1
	film := bytesOf(2*chunk + 1000)
	tests := map[string]struct {
		send sending
		want string
	}{
		"5 MiB and not the last":      {sending{file: film[:5<<20], chunk: chunkRange(0, 5<<20, len(film))}, "All parts except EOF-chunk must be larger than 5mb"},
		"short, the total not known":  {sending{file: film[:1000], chunk: "bytes 0-999/-1"}, "All parts except EOF-chunk must be larger than 5mb"},
		"fewer bytes than the range":  {sending{file: film[:chunk-1], chunk: chunkRange(0, chunk, len(film))}, "Content-Range of 5242881 bytes does not match the 5242880 bytes received"},
		"a malformed range":           {sending{file: film[:chunk], chunk: "bytes 0-"}, "Invalid Content-Range - bytes 0-"},
		"a range past the total":      {sending{file: film[:chunk], chunk: "bytes 0-5242880/5242880"}, "Invalid Content-Range - bytes 0-5242880/5242880"},
		"another total than before":   {sending{file: film[chunk : 2*chunk], chunk: chunkRange(chunk, chunk, 3*chunk)}, "Content-Range total differs from the one of an earlier chunk"},
		"half over another chunk":     {sending{file: film[10 : 10+chunk], chunk: chunkRange(10, chunk, len(film))}, "Content-Range overlaps another chunk"},
		"a later one without any id":  {sending{uploadID: "-", file: film[chunk : 2*chunk], chunk: chunkRange(chunk, chunk, len(film))}, "Missing required parameter - public_id"},
		"the running total over plan": {sending{file: film[chunk : 2*chunk], chunk: chunkRange(chunk, chunk, len(film))}, "File size too large. Got 10485762. Maximum is 10485760. Upgrade your plan to enjoy higher limits"},
		"no file":                     {sending{chunk: chunkRange(0, chunk, len(film))}, "Missing required parameter - file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(st *Settings) { st.Limits.Raw = 10 << 20 })
			send := func(p sending) answered {
				p.path, p.name = "/raw/upload", "film.bin"
				switch p.uploadID {
				case "":
					p.uploadID = "u1"
				case "-":
					p.uploadID = ""
				}
				return s.send(p)
			}
			if name != "5 MiB and not the last" {
				send(sending{file: film[:chunk], chunk: chunkRange(0, chunk, len(film))}).want(t, 200, map[string]any{"done": false, "bytes": chunk})
			}
			a := send(tt.send)
			a.want(t, 400, nil)
			if a.message() != tt.want || a.Header.Get("X-Cld-Error") != tt.want {
				t.Errorf("message %q, header %q, want %q", a.message(), a.Header.Get("X-Cld-Error"), tt.want)
			}
		})
	}
}

func TestTotalToldByTheLastChunk(t *testing.T) {
	s := open(t, smallChunks)
	film := bytesOf(chunk + 10)
	send := func(part []byte, rng string) answered {
		return s.send(sending{path: "/upload", file: part, name: "film", uploadID: "n", chunk: rng})
	}
	send(film[:chunk], fmt.Sprintf("bytes 0-%d/-1", chunk-1)).want(t, 200, map[string]any{"done": false, "bytes": chunk, "resource_type": nil})
	send(film[chunk:], chunkRange(chunk, 10, chunk+10)).want(t, 200, map[string]any{"done": true, "etag": md5Hex(film), "resource_type": "raw"})
}

func TestPartialIsForgotten(t *testing.T) {
	film := bytesOf(chunk + 1000)
	tests := map[string]func(*testing.T, *site){
		"after its life": func(_ *testing.T, s *site) { s.controls.Clock.Advance(24*time.Hour + time.Second) },
		"when told to": func(t *testing.T, s *site) {
			req := s.request(http.MethodPost, "/_sim/config", bytes.NewReader([]byte(`{"forget_partials":true}`)))
			s.do(req).want(t, 200, nil)
		},
		"after completion": func(_ *testing.T, s *site) { s.sendChunk("u1", film, chunk, 1000) },
	}
	for name, forget := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, smallChunks)
			s.sendChunk("u1", film, 0, chunk).want(t, 200, nil)
			forget(t, s)
			s.sendChunk("u1", film, chunk, 1000).want(t, 200, map[string]any{"done": false, "bytes": 1000, "error": nil})
		})
	}
}

func TestPartialOutlivesTheProcess(t *testing.T) {
	film := bytesOf(2*chunk + 1000)
	dir := t.TempDir()
	t.Run("before", func(t *testing.T) {
		s := reopen(t, dir, smallChunks)
		s.sendChunk("u1", film, 0, chunk).want(t, 200, map[string]any{"done": false})
	})
	t.Run("between", func(t *testing.T) {
		s := reopen(t, dir, smallChunks)
		s.sendChunk("u1", film, chunk, chunk).want(t, 200, map[string]any{"done": false, "bytes": 2 * chunk})
	})
	t.Run("after", func(t *testing.T) {
		s := reopen(t, dir, smallChunks)
		s.sendChunk("u1", film, 2*chunk, 1000).want(t, 200, map[string]any{"done": true, "etag": md5Hex(film)})
	})
	t.Run("the asset too", func(t *testing.T) {
		s := reopen(t, dir, smallChunks)
		if back := s.get(s.url + "/" + testCloud + "/video/upload/film"); !bytes.Equal(back.raw, film) {
			t.Errorf("other bytes are delivered, status %d", back.StatusCode)
		}
	})
}

func TestStrictOrder(t *testing.T) {
	s := open(t, func(st *Settings) {
		st.InOrder = true
		smallChunks(st)
	})
	film := bytesOf(2*chunk + 1000)
	s.sendChunk("u1", film, chunk, chunk).want(t, 400, nil)
	s.sendChunk("u1", film, 0, chunk).want(t, 200, nil)
	s.sendChunk("u1", film, 0, chunk).want(t, 200, nil)
	s.sendChunk("u1", film, 2*chunk, 1000).want(t, 400, nil)
	s.sendChunk("u1", film, chunk, chunk).want(t, 200, nil)
	s.sendChunk("u1", film, 2*chunk, 1000).want(t, 200, map[string]any{"done": true, "etag": md5Hex(film)})
}

// A chunk that was on its way while the one before it was replaced began from an MD5 that is
// no longer true.
func TestChunkReplacedWhileTheNextArrives(t *testing.T) {
	s := open(t, smallChunks)
	film := bytesOf(chunk + 1000)
	arrive := func(content []byte, start int) *form {
		t.Helper()
		f := &form{uploadID: "u1", chunk: &byteRange{int64(start), int64(start + len(content) - 1), int64(len(film))}}
		if err := s.save(f, bytes.NewReader(content), "film", 1<<30); err != nil {
			t.Fatal(err)
		}
		return f
	}
	take := func(f *form) (partial, bool) {
		t.Helper()
		p, complete, err := s.partials.add(f, terms{
			now: s.controls.Clock.Now(), deadline: s.deadline(), limit: func([]byte) int64 { return 1 << 30 },
		})
		if err != nil {
			t.Fatal(err)
		}
		return p, complete
	}
	take(arrive(bytes.Repeat([]byte{7}, chunk), 0))
	last := arrive(film[chunk:], chunk)
	take(arrive(film[:chunk], 0))
	p, complete := take(last)
	if !complete {
		t.Fatal("not complete")
	}
	if got, err := s.partials.md5(p); err != nil || got != md5Hex(film) {
		t.Errorf("md5 %s, %v, want %s", got, err, md5Hex(film))
	}
}
