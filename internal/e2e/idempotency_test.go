package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An API process dies in the middle of a file that has a key. Another one has the key wait for as long as the dead one
// could still be there, and then takes the file, once; the dead one's bytes are gone.
func TestAKeySurvivesTheDeathOfItsProcess(t *testing.T) {
	t.Parallel()
	s := dev(t, "--without", "api")
	d := s.database(t)
	first, second := s.api(t), s.api(t)
	const size = 20 * mib
	path, sum := file(t, "film.mp4", size)
	put := func(to *apiProcess) (status int, again bool, u uploadView) {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		resp, text := ask(t, "POST", to.url+"/v1/uploads?file_name=film.mp4", f, "Idempotency-Key: k", "Expect: 100-continue")
		if err := json.Unmarshal([]byte(text), &u); resp.StatusCode/100 == 2 && err != nil {
			t.Fatalf("answered %s %s", resp.Status, text)
		}
		if resp.StatusCode == 409 && resp.Header.Get("Retry-After") == "" {
			t.Error("nothing says when to come again")
		}
		return resp.StatusCode, resp.Header.Get("Idempotent-Replayed") == "true", u
	}

	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	conn, err := net.Dial("tcp", "127.0.0.1:"+first.env["PORT"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/uploads?file_name=film.mp4 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nIdempotency-Key: k\r\n\r\n%x\r\n", size)
	if _, err := io.CopyN(conn, f, size/2); err != nil {
		t.Fatal(err)
	}
	var dead string
	await(t, 30*time.Second, "half of the file", func() bool {
		_ = d.QueryRow(t.Context(), `SELECT upload_id FROM slipway.idempotency_keys`).Scan(&dead)
		info, err := os.Stat(filepath.Join(s.dir, "staging", dead))
		return dead != "" && err == nil && info.Size() >= size/4
	})
	first.kill()

	if status, _, _ := put(second); status != 409 {
		t.Errorf("while the dead one may be there: %d, want 409", status)
	}
	d.exec(t, `UPDATE slipway.idempotency_keys SET held_until = now() - interval '1 ms'`)
	status, again, u := put(second)
	if status != 202 || again {
		t.Fatalf("then: %d, as an answer given again: %t", status, again)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "staging", dead)); !os.IsNotExist(err) {
		t.Errorf("what the dead one had of the file is still there: %v", err)
	}
	first.again(t)
	for _, api := range []*apiProcess{first, second} {
		if status, again, same := put(api); status/100 != 2 || !again || same.ID != u.ID {
			t.Errorf("asked again: %d %t %s, want %s", status, again, same.ID, u.ID)
		}
	}
	s.at(second).wantDelivered(t, u.ID, sum)
	var uploads int
	d.row(t, `SELECT count(*) FROM slipway.uploads`, nil, &uploads)
	if uploads != 1 {
		t.Errorf("there are %d uploads", uploads)
	}
	s.wantStored(t, "uploadcare", 1)
}
