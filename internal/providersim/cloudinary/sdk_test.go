package cloudinary

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	sdk "github.com/cloudinary/cloudinary-go/v2"
	"github.com/cloudinary/cloudinary-go/v2/api"
	"github.com/cloudinary/cloudinary-go/v2/api/admin"
	"github.com/cloudinary/cloudinary-go/v2/api/uploader"
	"github.com/cloudinary/cloudinary-go/v2/config"
)

// goSDK is a client of the official Go SDK that talks to the simulator.
func (s *site) goSDK(change func(*config.Configuration)) *sdk.Cloudinary {
	s.t.Helper()
	c, err := config.NewFromParams(testCloud, testKey, testSecret)
	if err != nil {
		s.t.Fatal(err)
	}
	c.API.UploadPrefix = s.url
	c.API.ChunkSize = 5<<20 + 1
	if change != nil {
		change(c)
	}
	client, err := sdk.NewFromConfiguration(*c)
	if err != nil {
		s.t.Fatal(err)
	}
	client.Upload.Client = *s.http
	client.Admin.Client = *s.http
	return client
}

func writeFile(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGoSDK(t *testing.T) {
	small, large := bytesOf(1<<20), bytesOf(12<<20)
	tests := map[string]struct {
		content []byte
		change  func(*config.Configuration)
	}{
		"uploads a small file in one request": {small, nil},
		"uploads a large file in chunks":      {large, nil},
		"signs with SHA-256":                  {small, func(c *config.Configuration) { c.Cloud.SignatureAlgorithm = "sha256" }},
		"signs by the first version's rules":  {small, func(c *config.Configuration) { c.Cloud.SignatureVersion = 1 }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t, func(st *Settings) { st.SHA256 = strings.Contains(name, "SHA-256") })
			c := s.goSDK(tt.change)
			result, err := c.Upload.Upload(t.Context(), writeFile(t, "père & fils (1).mp4", tt.content), uploader.UploadParams{
				PublicID: "films/père", ResourceType: "video", Overwrite: api.Bool(true), Tags: []string{"trip", "sea"},
				Context: api.CldAPIMap{"album": "7"},
			})
			if err != nil || result.Error.Message != "" {
				t.Fatal(err, result.Error.Message)
			}
			if result.Etag != md5Hex(tt.content) || result.Bytes != len(tt.content) || result.OriginalFilename != "père & fils (1)" ||
				result.ResourceType != "video" || result.Format != "mp4" {
				t.Errorf("result %+v", result)
			}
			if !c.Upload.VerifyApiResponseSignature(result.PublicID, strconv.Itoa(result.Version), result.Signature) {
				t.Errorf("signature %s of the answer is not valid", result.Signature)
			}
			if back := s.get(result.SecureURL); md5Hex(back.raw) != result.Etag {
				t.Errorf("%s delivers %d other bytes, status %d", result.SecureURL, len(back.raw), back.StatusCode)
			}
			if n := len(s.Inventory().Files); n != 1 {
				t.Errorf("%d assets, want 1", n)
			}
		})
	}
}

func TestGoSDKManages(t *testing.T) {
	s := open(t, nil)
	c := s.goSDK(nil)
	content := bytesOf(1 << 10)
	uploaded, err := c.Upload.Upload(t.Context(), writeFile(t, "a.bin", content), uploader.UploadParams{PublicID: "a.bin", ResourceType: "raw"})
	if err != nil {
		t.Fatal(err)
	}

	asset, err := c.Admin.Asset(t.Context(), admin.AssetParams{AssetType: "raw", DeliveryType: "upload", PublicID: "a.bin", MediaMetadata: api.Bool(true)})
	if err != nil || asset.Error.Message != "" {
		t.Fatal(err, asset.Error.Message)
	}
	if asset.Etag != md5Hex(content) || asset.AssetID != uploaded.AssetID || asset.Version != uploaded.Version {
		t.Errorf("asset %+v", asset)
	}
	byID, err := c.Admin.AssetByAssetID(t.Context(), admin.AssetByAssetIDParams{AssetID: asset.AssetID})
	if err != nil || byID.PublicID != "a.bin" || byID.Etag != "" {
		t.Errorf("asset by its id: %+v, %v", byID, err)
	}
	if none, err := c.Admin.Asset(t.Context(), admin.AssetParams{PublicID: "a.bin"}); err != nil || none.Error.Message != "Resource not found - a.bin" {
		t.Errorf("the same id as an image: %q, %v", none.Error.Message, err)
	}
	listed, err := c.Admin.Assets(t.Context(), admin.AssetsParams{AssetType: "raw", DeliveryType: "upload", Prefix: "a"})
	if err != nil || len(listed.Assets) != 1 {
		t.Errorf("listed %+v, %v", listed, err)
	}
	if ping, err := c.Admin.Ping(t.Context()); err != nil || ping.Status != "ok" {
		t.Errorf("ping %+v, %v", ping, err)
	}
	usage, err := c.Admin.Usage(t.Context(), admin.UsageParams{})
	if err != nil || usage.MediaLimits.VideoMaxSizeBytes != 20e9 || usage.Storage.Usage != 1<<10 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	for _, want := range []string{"ok", "not found"} {
		gone, err := c.Upload.Destroy(t.Context(), uploader.DestroyParams{PublicID: "a.bin", ResourceType: "raw"})
		if err != nil || gone.Result != want {
			t.Errorf("destroy: %+v, %v, want %s", gone, err, want)
		}
	}
	deleted, err := c.Admin.DeleteAssets(t.Context(), admin.DeleteAssetsParams{AssetType: "raw", PublicIDs: []string{"a.bin", "b.bin"}})
	if err != nil || deleted.Deleted["b.bin"] != "not_found" {
		t.Errorf("delete: %+v, %v", deleted, err)
	}
}

func TestGoSDKIsRefused(t *testing.T) {
	s := open(t, nil)
	tests := map[string]struct {
		change func(*config.Configuration)
		params uploader.UploadParams
		want   string
	}{
		"a wrong secret":      {func(c *config.Configuration) { c.Cloud.APISecret = "wrong" }, uploader.UploadParams{}, "Invalid Signature"},
		"an old timestamp":    {nil, uploader.UploadParams{Timestamp: 1315060510}, "Stale request"},
		"another cloud":       {func(c *config.Configuration) { c.Cloud.CloudName = "other" }, uploader.UploadParams{}, "Invalid cloud_name other"},
		"no credentials":      {func(c *config.Configuration) { c.Cloud.APIKey = "" }, uploader.UploadParams{}, "Upload preset must be specified"},
		"an unknown key":      {func(c *config.Configuration) { c.Cloud.APIKey = "123" }, uploader.UploadParams{}, "Invalid api_key 123"},
		"an invalid id":       {nil, uploader.UploadParams{PublicID: "a?b"}, "public_id (a?b) is invalid"},
		"unknown metadata":    {nil, uploader.UploadParams{Metadata: api.Metadata{"x": "1"}}, `Metadata External IDs do not exist: ["x"]`},
		"bytes of no picture": {nil, uploader.UploadParams{ResourceType: "image"}, "Invalid image file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			result, err := s.goSDK(tt.change).Upload.Upload(t.Context(), strings.NewReader("hello"), tt.params)
			if err != nil || !strings.HasPrefix(result.Error.Message, tt.want) {
				t.Errorf("got %q, %v, want %q", result.Error.Message, err, tt.want)
			}
			if n := s.Inventory().Count; n != 0 {
				t.Errorf("%d assets were stored", n)
			}
		})
	}
}
