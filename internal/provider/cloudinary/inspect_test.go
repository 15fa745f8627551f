package cloudinary_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"slipway/internal/provider/cloudinary"
	"slipway/internal/provider/cloudinary/sign"
	"slipway/internal/upload"
)

// sent sends a file as a browser does, with an id and a delivery type of the test's.
func sent(t *testing.T, opt cloudinary.Options, rt upload.ResourceType, id, deliveryType, name string, content []byte) (answer struct {
	SecureURL string `json:"secure_url"`
	Version   int64
	ETag      string
}) {
	t.Helper()
	params := url.Values{"timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}, "public_id": {id}, "type": {deliveryType}, "tags": {"a,b"}}
	signature, err := sign.Key{Secret: apiSecret}.Request(params)
	if err != nil {
		t.Fatal(err)
	}
	params.Set("signature", signature)
	params.Set("api_key", apiKey)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for k := range params {
		w.WriteField(k, params.Get(k))
	}
	part, err := w.CreateFormFile("file", name)
	if err != nil {
		t.Fatal(err)
	}
	part.Write(content)
	w.Close()
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, opt.UploadPrefix+"/v1_1/"+cloudName+"/"+string(rt)+"/upload", &form)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", text, err)
	}
	return answer
}

func TestInspect(t *testing.T) {
	_, public := cloud(t)
	authenticated := public
	authenticated.Authenticated = true
	mp3 := []byte("ID3\x03\x00\x00\x00\x00\x00\x00")
	tests := map[string]struct {
		rt            upload.ResourceType
		id, kind      string
		name          string
		content       []byte
		opt           cloudinary.Options
		wantName      string
		wantType      string
		wantDelivered bool
	}{
		"a document with an extension":            {upload.Raw, "in a folder/père fils 1.pdf", "upload", "x.pdf", []byte("%PDF-1.7"), public, "père fils 1.pdf", "application/pdf", true},
		"a document without one":                  {upload.Raw, "inst/1", "upload", "x", []byte("hello"), public, "1", "application/octet-stream", true},
		"a PDF as an image":                       {upload.Image, "inst/2", "upload", "x.pdf", []byte("%PDF-1.7\n"), public, "2.pdf", "application/pdf", true},
		"a sound as a video":                      {upload.Video, "inst/3", "upload", "x.mp3", mp3, public, "3.mp3", "audio/mpeg", true},
		"what is delivered by signed links":       {upload.Raw, "inst/4", "authenticated", "x", []byte("hello"), authenticated, "4", "application/octet-stream", true},
		"what is public where links are signed":   {upload.Raw, "inst/5", "upload", "x", []byte("hello"), authenticated, "5", "application/octet-stream", true},
		"what is not public where links are open": {upload.Raw, "inst/6", "authenticated", "x", []byte("hello"), public, "", "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := open(t, tt.opt)
			answer := sent(t, tt.opt, tt.rt, tt.id, tt.kind, tt.name, tt.content)
			found, err := p.Inspect(within(t), tt.id, tt.rt)
			if err != nil || (found != nil) != tt.wantDelivered {
				t.Fatalf("found %+v, %v", found, err)
			}
			if found == nil {
				return
			}
			a := found.Asset
			if a.ID != tt.id || a.URL != sign.Plain(answer.SecureURL) || a.Size != int64(len(tt.content)) || a.ETag != answer.ETag || a.ContentType != tt.wantType || a.ResourceType != tt.rt {
				t.Errorf("found %+v, Cloudinary answered %+v", a, answer)
			}
			if found.FileName != tt.wantName || len(found.Tags) != 2 || time.Since(found.MadeAt).Abs() > time.Minute || found.Lasting || found.Mark != "" {
				t.Errorf("found %+v", found)
			}
			if other, err := p.Inspect(within(t), tt.id+"x", tt.rt); other != nil || err != nil {
				t.Errorf("another id: %+v, %v", other, err)
			}
		})
	}
}

func TestProven(t *testing.T) {
	_, opt := cloud(t)
	opt.DeliveryBase = opt.UploadPrefix
	p := open(t, opt)
	const id = "in a folder/père"
	answer := sent(t, opt, upload.Raw, id, "upload", "x", []byte("hello"))
	a := p.Proven(id, upload.Raw, answer.Version)
	if a.URL != answer.SecureURL || a.ID != id || a.Version != answer.Version || a.Size != 0 {
		t.Errorf("proven is %+v, Cloudinary answered %+v", a, answer)
	}
	opt.DeliveryBase = ""
	if a := open(t, opt).Proven("a", upload.Image, 7); a.URL != "https://res.cloudinary.com/"+cloudName+"/image/upload/v7/a" {
		t.Errorf("it is at %s", a.URL)
	}
	opt.Authenticated = true
	if a := open(t, opt).Proven(id, upload.Raw, answer.Version); a != nil {
		t.Errorf("how it is delivered is not proven, and it is at %s", a.URL)
	}
}
