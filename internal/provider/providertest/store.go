package providertest

import (
	"bytes"
	"testing"

	"slipway/internal/crc32c"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// Store has a provider keep a text of a few bytes as a worker would, under a folder of its own, and returns its asset.
func Store(t *testing.T, at provider.Provider, folder string, id upload.ID) upload.Asset {
	t.Helper()
	content := []byte("nobody knows me")
	src := provider.Source{
		UploadID: id, Key: folder + "/" + string(id), FileName: "a.txt", ContentType: "text/plain", ResourceType: upload.Raw,
		Size: int64(len(content)), CRC32C: crc32c.Update(0, content), Body: bytes.NewReader(content),
	}
	s, err := at.Begin(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	part, err := at.PushPart(t.Context(), s, src, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	asset, err := at.Commit(t.Context(), src, *part.Asset)
	if err != nil {
		t.Fatal(err)
	}
	return asset
}
