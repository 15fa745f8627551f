package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudinary/cloudinary-go/v2/api"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"slipway/internal/guides"
)

// guideApp is the server that both guides build, which knows nothing of Slipway.
type guideApp struct {
	*httptest.Server
	t   *testing.T
	sql *pgxpool.Pool
	env map[string]string // the guides' .env, and where the simulators are
}

func newGuideApp(t *testing.T, databaseURL string, env map[string]string) *guideApp {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	a := &guideApp{t: t, sql: pool, env: env}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /upload", a.upload)
	routes.HandleFunc("POST /save-metadata", a.saveMetadata)
	a.Server = httptest.NewServer(routes)
	t.Cleanup(a.Close)
	return a
}

func tell(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

type sorry struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
}

// upload is the Uploadcare guide's.
func (a *guideApp) upload(w http.ResponseWriter, r *http.Request) {
	const userID = "user_123"
	fileURL, err := func() (string, error) {
		file, header, err := r.FormFile("file")
		if err != nil {
			return "", err
		}
		defer file.Close()
		id, err := a.toUploadcare(r.Context(), header, file)
		if err != nil {
			return "", err
		}
		cdnURL := a.env["UPLOADCARE_CDN_BASE"] + "/" + id + "/"
		_, err = a.sql.Exec(r.Context(), guides.UploadcareInsert, id, cdnURL, userID)
		return cdnURL, err
	}()
	if err != nil {
		a.t.Log("Upload Error:", err)
		tell(w, http.StatusInternalServerError, sorry{Error: "Upload failed"})
		return
	}
	tell(w, http.StatusOK, struct {
		Success bool   `json:"success"`
		FileURL string `json:"fileUrl"`
	}{true, fileURL})
}

// toUploadcare is the guide's uploadFile.
func (a *guideApp) toUploadcare(ctx context.Context, header *multipart.FileHeader, content io.Reader) (id string, err error) {
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	err = errors.Join(parts.WriteField("UPLOADCARE_PUB_KEY", a.env["UPLOADCARE_PUBLIC_KEY"]), parts.WriteField("UPLOADCARE_STORE", "auto"))
	part, partErr := parts.CreatePart(header.Header)
	if err = errors.Join(err, partErr); err == nil {
		_, err = io.Copy(part, content)
	}
	if err := errors.Join(err, parts.Close()); err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.env["UPLOADCARE_UPLOAD_BASE"]+"/base/", &form)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", parts.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var answer struct{ File string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.File == "" {
		return "", fmt.Errorf("uploadcare answered %s %s", resp.Status, body)
	}
	return answer.File, nil
}

// saveMetadata is the Cloudinary guide's.
func (a *guideApp) saveMetadata(w http.ResponseWriter, r *http.Request) {
	const userID = "user_123"
	var said struct {
		PublicID     string `json:"public_id"`
		SecureURL    string `json:"secure_url"`
		ResourceType string `json:"resource_type"`
	}
	err := json.NewDecoder(r.Body).Decode(&said)
	if err == nil && (said.PublicID == "" || said.SecureURL == "" || said.ResourceType == "") {
		err = errors.New("public_id, secure_url, and resource_type are required")
	}
	if err == nil {
		_, err = a.sql.Exec(r.Context(), guides.CloudinaryInsert, said.PublicID, said.SecureURL, said.ResourceType, userID)
	}
	if err != nil {
		a.t.Log("Metadata Save Error:", err)
		tell(w, http.StatusInternalServerError, sorry{Error: "Failed to save metadata"})
		return
	}
	tell(w, http.StatusOK, struct {
		Success bool `json:"success"`
	}{true})
}

// guideRow is a row as one of the guides' SELECTs returns it.
type guideRow struct {
	id           int32
	asset, url   string
	resourceType string // only Cloudinary's
	user         string
	at           time.Time
}

// rows are what a guide's SELECT finds, by the asset.
func (a *guideApp) rows(t *testing.T, statement string) map[string]guideRow {
	t.Helper()
	rows, err := a.sql.Query(t.Context(), statement)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r guideRow, err error) {
		if statement == guides.CloudinarySelect {
			return r, row.Scan(&r.id, &r.asset, &r.url, &r.resourceType, &r.user, &r.at)
		}
		return r, row.Scan(&r.id, &r.asset, &r.url, &r.user, &r.at)
	})
	if err != nil {
		t.Fatal(err)
	}
	byAsset, ids := map[string]guideRow{}, map[int32]bool{}
	for _, r := range found {
		byAsset[r.asset], ids[r.id] = r, true
	}
	if len(byAsset) != len(found) || len(ids) != len(found) {
		t.Errorf("%d rows with %d assets and %d ids", len(found), len(byAsset), len(ids))
	}
	return byAsset
}

// saves does what the guides' readers do: a file by the app to Uploadcare, and a picture straight to
// Cloudinary, whose answer goes to the app. It returns the assets.
func (a *guideApp) saves(t *testing.T, path string) (fileID, publicID string) {
	t.Helper()
	var done struct {
		Success bool
		FileURL string `json:"fileUrl"`
	}
	curl(t, &done, "-X", "POST", a.URL+"/upload", "-F", "file=@"+path, "-F", "fileName=my-test-image.jpg")
	if !done.Success {
		t.Fatal("the guide's app could not take a file")
	}
	fileID = strings.Trim(strings.TrimPrefix(done.FileURL, a.env["UPLOADCARE_CDN_BASE"]), "/")

	at := fmt.Sprint(time.Now().Unix())
	var stored map[string]any
	curl(t, &stored, "-X", "POST", a.env["CLOUDINARY_UPLOAD_PREFIX"]+"/v1_1/"+a.env["CLOUDINARY_CLOUD_NAME"]+"/image/upload",
		"-F", "file=@"+path, "-F", "api_key="+a.env["CLOUDINARY_API_KEY"], "-F", "timestamp="+at, "-F", "signature="+signature(t, a.env["CLOUDINARY_API_SECRET"], at))
	b, err := json.Marshal(map[string]any{"public_id": stored["public_id"], "secure_url": stored["secure_url"], "resource_type": stored["resource_type"]})
	if err != nil {
		t.Fatal(err)
	}
	var saved struct{ Success bool }
	curl(t, &saved, "-X", "POST", a.URL+"/save-metadata", "-H", "Content-Type: application/json", "-d", string(b))
	if !saved.Success {
		t.Fatalf("the guide's app could not save %s", b)
	}
	return fileID, stored["public_id"].(string)
}

// signature signs a timestamp as the guide's api_sign_request does.
func signature(t *testing.T, secret, timestamp string) string {
	t.Helper()
	s, err := api.SignParameters(url.Values{"timestamp": {timestamp}}, secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fileList is what the tests read of /v1/files.
type fileList struct {
	Files []struct {
		ID       string
		UploadID *string `json:"upload_id"`
		AssetID  string  `json:"asset_id"`
	}
}

// files are Slipway's ids of the files that it lists, by the asset.
func (s *stack) files(t *testing.T, query string) map[string]string {
	t.Helper()
	var list fileList
	getJSON(t, s.url+"/v1/files?limit=100&"+query, &list)
	ids := map[string]string{}
	for _, f := range list.Files {
		ids[f.AssetID] = f.ID
	}
	return ids
}

// deletes deletes a file by Slipway.
func (s *stack) deletes(t *testing.T, id string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.url+"/v1/files/"+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("DELETE %s: %s %s %v", id, resp.Status, body, err)
	}
}

// put sends a file by Slipway and returns the asset.
func (s *stack) put(t *testing.T, path, provider string) (id, asset string) {
	t.Helper()
	var u uploadView
	curl(t, &u, "-X", "POST", s.url+"/v1/uploads", "-F", "file=@"+path, "-F", "provider="+provider)
	return u.ID, s.awaitStatus(t, time.Minute, u.ID, "completed").Asset.ID
}

// slipway runs a command that ends.
func slipway(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "slipway"), args...)
	cmd.Dir = t.TempDir()
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("slipway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ownedDatabase makes a database for a role with these attributes, and returns the role's URL.
func ownedDatabase(t *testing.T, superURL, name, attributes string) string {
	t.Helper()
	u, err := url.Parse(superURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), superURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, sql := range []string{
		fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'secret' %s`, name, attributes),
		fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0 OWNER %[1]s`, name),
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	u.User, u.Path = url.UserPassword(name, "secret"), "/"+name
	return u.String()
}

func TestTheGuidesAppBesideSlipway(t *testing.T) {
	t.Parallel()
	around := dev(t, "--without", "api,worker") // stands in for Neon and the providers
	owners := map[string]string{"a superuser": "SUPERUSER", "an owner like Neon's": "CREATEROLE BYPASSRLS", "a plain owner": "CREATEROLE"}
	n := 0
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		for name, flags := range map[string][]string{"": nil, " with row-level security": {"--rls-guide-tables"}} {
			n++
			databaseURL := ownedDatabase(t, around.env["DATABASE_URL"], fmt.Sprintf("guide_%d", n), owners[owner])
			t.Run(owner+name, func(t *testing.T) { besideSlipway(t, around, databaseURL, flags) })
		}
	}
}

func besideSlipway(t *testing.T, around *stack, databaseURL string, flags []string) {
	app := newGuideApp(t, databaseURL, around.env)
	if _, err := app.sql.Exec(t.Context(), guides.UploadcareTable+guides.CloudinaryTable); err != nil {
		t.Fatal(err)
	}
	path := picture(t)
	oldFile, oldPicture := app.saves(t, path)
	keptFile, keptPicture := app.saves(t, path)
	atFirst := app.rows(t, guides.UploadcareSelect)

	env := maps.Clone(around.env)
	delete(env, "DATABASE_URL_UNPOOLED")
	port := freePort(t)
	maps.Copy(env, map[string]string{"DATABASE_URL": databaseURL, "STAGING_DIR": t.TempDir(), "PORT": port, "WORKER_PORT": freePort(t), "HOST": "127.0.0.1"})
	for range 2 {
		said := slipway(t, env, append([]string{"migrate", "--data-api"}, flags...)...)
		if !strings.Contains(said, "there is no role authenticated or anonymous") || strings.Contains(said, "Row-level security is on") != (flags != nil) {
			t.Errorf("slipway migrate said %s", said)
		}
	}
	start(t, env, "slipway", "serve")
	s := &stack{env: env, url: "http://127.0.0.1:" + port, sim: around.sim}
	await(t, time.Minute, "Slipway to be ready", func() bool {
		resp, err := http.Get(s.url + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	if now := app.rows(t, guides.UploadcareSelect); !maps.Equal(now, atFirst) {
		t.Errorf("after the migration the guide's SELECT finds %v, before %v", now, atFirst)
	}

	// Both write at once, and see everything that the other has written.
	newFile, newPicture := app.saves(t, path)
	var both errgroup.Group
	both.Go(func() error {
		for n := range 20 {
			for _, insert := range []struct {
				sql  string
				args []any
			}{
				{guides.UploadcareInsert, []any{fmt.Sprint("file ", n), fmt.Sprint("https://ucarecdn.com/file ", n), "user_123"}},
				{guides.CloudinaryInsert, []any{fmt.Sprint("picture ", n), fmt.Sprint("https://res.cloudinary.com/demo/image/upload/picture ", n), "image", "user_123"}},
			} {
				if _, err := app.sql.Exec(t.Context(), insert.sql, insert.args...); err != nil {
					return err
				}
			}
		}
		return nil
	})
	fileUpload, ourFile := s.put(t, path, "uploadcare")
	pictureUpload, ourPicture := s.put(t, path, "cloudinary")
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	listed := func(statement, query string) (theirs map[string]guideRow, ours map[string]string) {
		t.Helper()
		theirs, ours = app.rows(t, statement), s.files(t, query)
		if a, b := slices.Sorted(maps.Keys(theirs)), slices.Sorted(maps.Keys(ours)); !slices.Equal(a, b) {
			t.Errorf("the guide's SELECT finds %v, /v1/files?%s has %v", a, query, b)
		}
		return theirs, ours
	}
	const uploadcare, cloudinary = "provider=uploadcare", "provider=cloudinary&resource_type=image"
	files, fileIDs := listed(guides.UploadcareSelect, uploadcare)
	pictures, pictureIDs := listed(guides.CloudinarySelect, cloudinary)
	for _, asset := range []string{oldFile, keptFile, newFile, ourFile} {
		if files[asset].user != "user_123" || files[asset].at.IsZero() || !strings.Contains(files[asset].url, asset) {
			t.Errorf("the guide's SELECT has %+v of %s", files[asset], asset)
		}
	}
	for _, asset := range []string{oldPicture, keptPicture, newPicture, ourPicture} {
		if pictures[asset].resourceType != "image" || !strings.Contains(pictures[asset].url, asset) {
			t.Errorf("the guide's SELECT has %+v of %s", pictures[asset], asset)
		}
	}
	if fileIDs[ourFile] != fileUpload || fileIDs[oldFile] != fmt.Sprint("uploadcare-", files[oldFile].id) || pictureIDs[ourPicture] != pictureUpload {
		t.Errorf("Slipway calls the files %v and %v", fileIDs, pictureIDs)
	}

	// What Slipway deletes is gone for the app, and from the providers.
	for _, id := range []string{fileIDs[oldFile], fileIDs[newFile], fileUpload, pictureIDs[oldPicture], pictureIDs[newPicture], pictureUpload} {
		s.deletes(t, id)
	}
	gone := []string{oldFile, newFile, ourFile, oldPicture, newPicture, ourPicture}
	await(t, time.Minute, "the guide's rows to be gone", func() bool {
		rows := app.rows(t, guides.UploadcareSelect)
		maps.Copy(rows, app.rows(t, guides.CloudinarySelect))
		return !slices.ContainsFunc(gone, func(asset string) bool { _, there := rows[asset]; return there })
	})
	for _, asset := range gone[:3] {
		wantStatus(t, "a deleted file", files[asset].url, http.StatusNotFound)
	}
	for _, asset := range gone[3:] {
		wantStatus(t, "a deleted picture", pictures[asset].url, http.StatusNotFound)
	}
	wantStatus(t, "a file that was kept", files[keptFile].url, http.StatusOK)
	wantStatus(t, "a picture that was kept", pictures[keptPicture].url, http.StatusOK)
	s.awaitStatus(t, time.Minute, fileUpload, "deleted")

	// What the app deletes is gone for Slipway, and an upload without its row can still be deleted.
	lastUpload, lastFile := s.put(t, path, "uploadcare")
	if _, err := app.sql.Exec(t.Context(), `DELETE FROM uploadcare_files WHERE file_id = ANY ($1)`, []string{keptFile, lastFile}); err != nil {
		t.Fatal(err)
	}
	if left, _ := listed(guides.UploadcareSelect, uploadcare); len(left) != 20 {
		t.Errorf("%d files are left, want 20", len(left))
	}
	listed(guides.CloudinarySelect, cloudinary)
	s.deletes(t, lastUpload)
	s.awaitStatus(t, time.Minute, lastUpload, "deleted")
	wantStatus(t, "the file of a row that was removed", s.env["UPLOADCARE_CDN_BASE"]+"/"+lastFile+"/", http.StatusNotFound)
}
