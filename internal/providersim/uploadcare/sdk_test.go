package uploadcare

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	ucfile "github.com/uploadcare/uploadcare-go/file"
	"github.com/uploadcare/uploadcare-go/project"
	"github.com/uploadcare/uploadcare-go/ucare"
	"github.com/uploadcare/uploadcare-go/upload"
)

// rewrite sends what is meant for the service to the simulator, and leaves Host as it was.
type rewrite struct {
	to   *url.URL
	next http.RoundTripper
}

func (rw rewrite) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Host, ".uploadcare.com") {
		host := r.URL.Host
		r = r.Clone(r.Context())
		r.URL.Scheme, r.URL.Host, r.Host = rw.to.Scheme, rw.to.Host, host
	}
	return rw.next.RoundTrip(r)
}

// goSDK is the official Go client of a simulator.
func goSDK(t *testing.T, sim *Running, signed bool) ucare.Client {
	t.Helper()
	to, err := url.Parse(sim.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := ucare.NewClient(ucare.APICreds{PublicKey: testPublicKey, SecretKey: testSecretKey}, &ucare.Config{
		APIVersion:              "v0.7",
		SignBasedAuthentication: signed,
		HTTPClient:              &http.Client{Transport: rewrite{to, transport}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// content is n bytes in which every position shows.
func content(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func md5Hex(b []byte) string {
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// soon is the deadline of everything a test waits for.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestGoSDKStoresADirectUpload(t *testing.T) {
	for name, signed := range map[string]bool{"with simple authentication": false, "with signed requests": true} {
		t.Run(name, func(t *testing.T) {
			sim := begin(t, t.TempDir(), Config{SignedUploads: signed})
			client := goSDK(t, sim, signed)
			data := content(100_000)

			id, err := upload.NewService(client).File(soon(t), upload.FileParams{
				Data: bytes.NewReader(data), Name: `père "&" fils (1).mp4`, ContentType: "video/mp4", ToStore: ucare.String(upload.ToStoreFalse),
			})
			if err != nil {
				t.Fatal(err)
			}
			info, err := upload.NewService(client).FileInfo(soon(t), id)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsStored || !info.IsReady || info.Size != 100_000 || info.OriginalFileName != `père "&" fils (1).mp4` || info.MimeType != "video/mp4" {
				t.Errorf("after the upload: %+v", info)
			}
			stored, err := ucfile.NewService(client).Store(soon(t), id)
			if err != nil {
				t.Fatal(err)
			}
			if stored.StoredAt == nil || stored.RemovedAt != nil || stored.ID != id {
				t.Errorf("after the store: %+v", stored)
			}
			if got := get(t, *stored.OriginalFileURL); !bytes.Equal(got, data) {
				t.Errorf("the CDN brought %d bytes with MD5 %s, want %s", len(got), md5Hex(got), md5Hex(data))
			}
			gone, err := ucfile.NewService(client).Delete(soon(t), id)
			if err != nil {
				t.Fatal(err)
			}
			if gone.RemovedAt == nil || gone.StoredAt != nil || gone.OriginalFileURL != nil {
				t.Errorf("after the delete: %+v", gone)
			}
		})
	}
}

func TestGoSDKUploadsInParts(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{SignedUploads: true})
	client := goSDK(t, sim, true)
	data := content(11_000_000)

	up, err := upload.NewService(client).Multipart(soon(t), upload.MultipartParams{
		FileName: "film.mp4", Size: int64(len(data)), ContentType: "video/mp4", Data: bytes.NewReader(data),
	})
	if err != nil {
		t.Fatal(err)
	}
	var id string
	select {
	case info := <-up.Done():
		id = info.ID
	case err := <-up.Error():
		t.Fatal(err)
	case <-soon(t).Done():
		t.Fatal("no end of the upload in time")
	}
	files, err := sim.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 1 || files[0].UUID != id || files[0].MD5 != md5Hex(data) {
		t.Errorf("kept %+v, want one file %s with MD5 %s", files, id, md5Hex(data))
	}
	if n := len(sim.Controls.Requests.Find(http.MethodPut, nil)); n != 3 {
		t.Errorf("%d parts arrived, want 3", n)
	}
}

func TestGoSDKListsAndStoresInBatches(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	client := goSDK(t, sim, true)
	var ids []string
	for range 3 {
		id, err := upload.NewService(client).File(soon(t), upload.FileParams{
			Data: strings.NewReader("x"), Name: "x.txt", ContentType: "text/plain", ToStore: ucare.String(upload.ToStoreFalse),
		})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}

	const unknown = "21975c81-7f57-4c7a-aef9-acfe28779f78"
	batch, err := ucfile.NewService(client).BatchStore(soon(t), []string{ids[0], ids[2], unknown, "no uuid"})
	if err != nil {
		t.Fatal(err)
	}
	if len(batch.Results) != 2 || batch.Problems[unknown] != "Missing in the project" || batch.Problems["no uuid"] != "Invalid" {
		t.Errorf("batch store: %+v", batch)
	}
	list, err := ucfile.NewService(client).List(soon(t), ucfile.ListParams{Limit: ucare.Uint64(2)})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for list.Next() {
		info, err := list.ReadResult()
		if err != nil {
			t.Fatal(err)
		}
		listed = append(listed, info.ID)
	}
	if !slices.Equal(listed, ids) {
		t.Errorf("listed %v, want %v", listed, ids)
	}
}

func TestGoSDKReadsTheProject(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{Autostore: true})
	info, err := project.NewService(goSDK(t, sim, true)).Info(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.PubKey != testPublicKey || !info.AutostoreEnabled {
		t.Errorf("project %+v", info)
	}
}

// get reads a whole answer.
func get(t *testing.T, address string) []byte {
	t.Helper()
	resp := do(t, http.MethodGet, address, nil, nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %d %s", address, resp.StatusCode, resp.body)
	}
	return resp.body
}

// answer is a response that has been read.
type answer struct {
	*http.Response
	body []byte
}

// do makes a request on a connection of its own.
func do(t *testing.T, method, address string, header http.Header, body io.Reader) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(soon(t), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, all}
}
