package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const mib = 1 << 20

func TestTheGuidesCallWordForWord(t *testing.T) {
	t.Parallel()
	s := dev(t)
	path, sum := file(t, "my-image.jpg", 40_000)
	var answer struct {
		Success bool
		FileURL string `json:"fileUrl"`
	}
	curl(t, &answer, "-X", "POST", s.url+"/upload", "-F", "file=@"+path, "-F", "fileName=my-test-image.jpg")
	if !answer.Success || !strings.HasPrefix(answer.FileURL, s.sim+"/") {
		t.Fatalf("answered %+v, want success and a URL at %s", answer, s.sim)
	}
	if got := sumAt(t, answer.FileURL); got != sum {
		t.Errorf("%s holds other bytes than were sent", answer.FileURL)
	}

	conn, err := pgx.Connect(t.Context(), s.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var id int
	var fileID, fileURL, user string
	var at time.Time
	err = conn.QueryRow(t.Context(), `SELECT id, file_id, file_url, user_id, upload_timestamp FROM uploadcare_files WHERE user_id = 'user_123'`).Scan(&id, &fileID, &fileURL, &user, &at)
	if err != nil || fileURL != answer.FileURL || !strings.Contains(fileURL, fileID) {
		t.Errorf("the guide's SELECT found %d %s %s %s, %v; want the file just uploaded", id, fileID, fileURL, user, err)
	}
}

func TestAFileGoesTheWholeWay(t *testing.T) {
	t.Parallel()
	s := dev(t)
	sizes := map[string]int64{"1 byte": 1, "1 MiB": mib, "200 MiB": 200 * mib}
	for name, size := range sizes {
		for _, provider := range []string{"uploadcare", "cloudinary"} {
			t.Run(name+" to "+provider, func(t *testing.T) {
				path, sum := file(t, "père & fils (1).mp4", size)
				var u uploadView
				curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
				if u.Size != size || u.FileName != "père & fils (1).mp4" || u.Provider != provider {
					t.Errorf("accepted as %+v", u)
				}
				done := s.awaitStatus(t, time.Minute, u.ID, "completed")
				if done.PushedBytes != size || done.Progress != 1 || done.Asset == nil {
					t.Errorf("completed as %+v", done)
				}
				if got := sumAt(t, s.url+"/v1/files/"+u.ID+"/content"); got != sum {
					t.Error("the content link leads to other bytes than were sent")
				}
			})
		}
	}
	staged, err := filepath.Glob(filepath.Join(s.dir, "staging", "*-*"))
	if err != nil || len(staged) != 0 {
		t.Errorf("staging still holds %v, %v", staged, err)
	}
}

// request is an entry of a simulator's log.
type request struct {
	Method   string `json:"method"`
	Target   string `json:"target"`
	Received int64  `json:"received"`
}

func TestAKilledWorkerLosesNothing(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		part     string // in the targets of requests that carry bytes
		partSize int64
		inFlight int64
	}{
		"uploadcare": {"partNumber=", 5 * mib, 4},
		"cloudinary": {"/upload", 20_000_000, 1},
	}
	for provider, tt := range tests {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			s := dev(t, "--without", "worker")
			control := s.sim + "/_sim/" + provider
			post(t, control+"/line", map[string]any{"bytes_per_second": 20 * mib})
			const size = 100 * mib
			path, sum := file(t, "film.mp4", size)
			var u uploadView
			curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
			first := start(t, s.env, "worker")
			await(t, 30*time.Second, "the push to get on", func() bool { return s.upload(t, u.ID).PushedBytes >= 2*tt.partSize })
			first.kill()
			had := s.upload(t, u.ID)
			if had.Status != "pushing" {
				t.Fatalf("the worker was killed too late: the upload is %s", had.Status)
			}
			post(t, control+"/line", map[string]any{"bytes_per_second": 0})
			start(t, s.env, "worker")
			s.awaitStatus(t, time.Minute, u.ID, "completed")
			if got := sumAt(t, s.url+"/v1/files/"+u.ID+"/content"); got != sum {
				t.Error("the content link leads to other bytes than were sent")
			}
			var log struct{ Requests []request }
			getJSON(t, control+"/requests", &log)
			var sent int64
			for _, r := range log.Requests {
				if strings.Contains(r.Target, tt.part) {
					sent += r.Received
				}
			}
			if most := size + tt.inFlight*tt.partSize + mib; sent > most {
				t.Errorf("%d bytes were sent for a file of %d; at most %d may be after one death", sent, int64(size), most)
			}
		})
	}
}

func TestAWorkerUntilIdle(t *testing.T) {
	t.Parallel()
	s := dev(t, "--without", "worker")
	path, _ := file(t, "a.bin", 1000)
	var u uploadView
	curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path)
	w := start(t, s.env, "worker", "-until-idle")
	select {
	case <-w.done:
		if w.err != nil {
			t.Errorf("ended with %v", w.err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the worker did not end although nothing was left")
	}
	if u := s.upload(t, u.ID); u.Status != "completed" {
		t.Errorf("the upload is %s", u.Status)
	}
}

func TestADevStackOnAGuidesEnvFile(t *testing.T) {
	t.Parallel()
	around := dev(t, "--without", "api,worker") // stands in for Neon and the provider
	env := filepath.Join(t.TempDir(), ".env")
	lines := []string{
		"UPLOADCARE_PUBLIC_KEY=" + around.env["UPLOADCARE_PUBLIC_KEY"],
		"UPLOADCARE_SECRET_KEY=" + around.env["UPLOADCARE_SECRET_KEY"],
		"DATABASE_URL=" + around.env["DATABASE_URL"],
		"UPLOADCARE_UPLOAD_BASE=" + around.sim, "UPLOADCARE_REST_BASE=" + around.sim, "UPLOADCARE_CDN_BASE=" + around.sim,
	}
	if err := os.WriteFile(env, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	s := dev(t, "--env-file", env)
	path, sum := file(t, "a.bin", 1000)
	var answer struct {
		FileURL string `json:"fileUrl"`
	}
	curl(t, &answer, "-X", "POST", s.url+"/upload", "-F", "file=@"+path)
	if got := sumAt(t, answer.FileURL); got != sum || !strings.HasPrefix(answer.FileURL, around.sim) {
		t.Errorf("%s is not the file at the provider that the file names", answer.FileURL)
	}
}

func TestTheCommandLine(t *testing.T) {
	t.Parallel()
	s := dev(t)
	path, sum := file(t, "père & fils (1).mp4", 3*mib)
	put := exec.Command(filepath.Join(bin, "slipway"), "put", "--wait", "--provider", "cloudinary", path)
	put.Env = append(os.Environ(), "SLIPWAY_URL="+s.url)
	out, err := put.Output()
	if err != nil {
		t.Fatalf("slipway put: %v: %s", err, out)
	}
	var url string
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "http") {
			url = word
		}
	}
	if url == "" {
		t.Fatalf("slipway put printed no URL: %s", out)
	}
	if got := sumAt(t, url); got != sum {
		t.Errorf("%s holds other bytes than were sent", url)
	}
}
