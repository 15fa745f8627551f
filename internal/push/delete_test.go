package push_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// deletes asks for the end of ann's file.
func (y *yard) deletes(t *testing.T, f func(tx pgx.Tx) error) {
	t.Helper()
	if err := postgres.AsUser(t.Context(), y.pool, postgres.Claims{Subject: "ann"}, f); err != nil {
		t.Fatal(err)
	}
}

func (y *yard) deletesUpload(t *testing.T, id upload.ID) {
	t.Helper()
	y.deletes(t, func(tx pgx.Tx) error {
		_, err := postgres.DeleteUpload(t.Context(), tx, y.ingest.Queue, "ann", id)
		return err
	})
}

// awaitNone waits until a query counts nothing.
func (y *yard) awaitNone(t *testing.T, sql string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var n int
		if err := y.pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still %d", sql, n)
		}
		<-tick.C
	}
}

func TestADeletedFileIsGoneFromItsProvider(t *testing.T) {
	deletion := map[string]string{"uploadcare": "^/files/", "cloudinary": "/destroy$"}
	weather := map[string]func(path string) providersim.Rule{
		"in good weather": nil,
		"after it was answered 503": func(path string) providersim.Rule {
			return providersim.Rule{Path: path, Times: 2, Action: providersim.Answer, Status: 503}
		},
		"after an answer was lost": func(path string) providersim.Rule {
			return providersim.Rule{Path: path, Times: 1, Action: providersim.ResetAfter}
		},
		"after the account was refused": func(path string) providersim.Rule {
			return providersim.Rule{Path: path, Times: 1, Action: providersim.Answer, Status: 401, Body: `{"error":{"message":"unknown api_key"},"detail":"Incorrect authentication credentials."}`}
		},
	}
	for name := range deletion {
		for what, rule := range weather {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				y.worker(t)
				gone, kept := random(1000), random(1000)
				u := y.awaitStatus(t, y.accept(t, name, gone).ID, upload.Completed)
				y.awaitStatus(t, y.accept(t, name, kept).ID, upload.Completed)
				if rule != nil {
					y.fault(t, name, rule(deletion[name]))
				}
				y.deletesUpload(t, u.ID)
				y.deletesUpload(t, u.ID)
				u = y.awaitStatus(t, u.ID, upload.Deleted)
				y.delivered(t, name, kept)
				if u.Asset != nil || u.Error != nil || u.Unstaged == nil {
					t.Errorf("deleted it is %+v", u)
				}
				y.awaitNone(t, `SELECT count(*) FROM `+name+`_files WHERE upload_id = '`+string(u.ID)+`'`)
				y.awaitNone(t, `SELECT count(*) FROM slipway.file_deletions`)
			})
		}
	}
}

// sendsByItself puts a file into the cloud as the guide's curl does, and saves it as the guide's app does.
func (y *yard) sendsByItself(t *testing.T, publicID, user string, content []byte) (row int64) {
	t.Helper()
	y.sends(t, publicID, content)
	err := y.pool.QueryRow(t.Context(), `INSERT INTO cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ($1, $2, 'raw', $3) RETURNING id`,
		publicID, y.cloudURL+"/demo/raw/upload/v1/"+publicID, user).Scan(&row)
	if err != nil {
		t.Fatal(err)
	}
	return row
}

// sends puts a file into the cloud as the guide's curl does.
func (y *yard) sends(t *testing.T, publicID string, content []byte) {
	t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	at := fmt.Sprint(time.Now().Unix())
	signature, err := sign.Key{Secret: "secret"}.Request(url.Values{"public_id": {publicID}, "timestamp": {at}})
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"api_key": "key", "timestamp": at, "public_id": publicID, "signature": signature} {
		_ = w.WriteField(k, v)
	}
	part, err := w.CreateFormFile("file", "a.bin")
	if err == nil {
		_, err = part.Write(content)
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, y.cloudURL+"/v1_1/demo/raw/upload", &form)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("Cloudinary answered %s", resp.Status)
	}
}

func TestAFileFromBeforeIsGoneFromItsProvider(t *testing.T) {
	y := newYard(t)
	kept := random(500)
	row := y.sendsByItself(t, "old", "ann", random(500))
	y.sendsByItself(t, "kept", "ann", kept)
	y.deletes(t, func(tx pgx.Tx) error {
		return postgres.DeleteFileRow(t.Context(), tx, y.ingest.Queue, "ann", "cloudinary", row)
	})
	y.worker(t)
	y.awaitNone(t, `SELECT count(*) FROM cloudinary_files WHERE public_id = 'old'`)
	y.delivered(t, "cloudinary", kept)
}

func TestAnAssetOfUnsureTypeIsFoundAndDeleted(t *testing.T) {
	y := newYard(t)
	stop := y.worker(t)
	u := y.awaitStatus(t, y.accept(t, "cloudinary", random(500)).ID, upload.Completed)
	stop()
	for _, sql := range []string{
		`UPDATE slipway.uploads SET asset = asset || '{"resource_type":"image"}' WHERE id = $1`,
		`INSERT INTO slipway.direct_uploads (upload_id, user_id, provider, details_due) VALUES ($1, 'ann', 'cloudinary', true)`,
	} {
		if _, err := y.pool.Exec(t.Context(), sql, u.ID); err != nil {
			t.Fatal(err)
		}
	}
	y.deletesUpload(t, u.ID)
	y.worker(t)
	y.awaitStatus(t, u.ID, upload.Deleted)
	if left := y.lasting(t, "cloudinary"); len(left) > 0 {
		t.Errorf("the provider keeps %v", left)
	}
}

func TestACopysWorkerLeavesTheOriginalsAssets(t *testing.T) {
	y := newYard(t)
	content := random(500)
	row := y.sendsByItself(t, "old", "ann", content)
	y.deletes(t, func(tx pgx.Tx) error {
		return postgres.DeleteFileRow(t.Context(), tx, y.ingest.Queue, "ann", "cloudinary", row)
	})
	if err := postgres.Rehome(t.Context(), y.pool, "postgres://branch.example/copy", true); err != nil {
		t.Fatal(err)
	}
	y.worker(t)
	y.awaitNone(t, `SELECT count(*) FROM cloudinary_files`)
	y.delivered(t, "cloudinary", content)
}

func TestADeletionSurvivesItsWorker(t *testing.T) {
	y := newYard(t)
	stop := y.worker(t)
	u := y.awaitStatus(t, y.accept(t, "cloudinary", random(1000)).ID, upload.Completed)
	stop()
	y.deletesUpload(t, u.ID)
	if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.river_job SET state = 'running', attempt = 1, attempted_at = now() - interval '1 hour' WHERE kind = 'delete_asset'`); err != nil {
		t.Fatal(err)
	}
	if n, err := postgres.AdoptDeletions(t.Context(), y.pool, y.ingest.Queue, time.Minute); n != 1 || err != nil {
		t.Fatalf("%d adopted, %v", n, err)
	}
	y.worker(t)
	y.awaitStatus(t, u.ID, upload.Deleted)
	if left := y.lasting(t, "cloudinary"); len(left) > 0 {
		t.Errorf("the provider keeps %v", left)
	}
}
