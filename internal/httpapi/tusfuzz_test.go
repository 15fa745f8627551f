package httpapi

import (
	"bytes"
	"encoding/base64"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/ingest"
	"slipway/internal/upload"
)

// metadataOf writes a request as a tus client does.
func metadataOf(r ingest.Request) string {
	said := maps.Clone(r.Metadata)
	if said == nil {
		said = map[string]string{}
	}
	for key, value := range map[string]string{
		"filename": r.FileName, "filetype": r.ContentType, "provider": r.Provider, "resource_type": r.ResourceType, "tags": strings.Join(r.Tags, ","),
	} {
		if value != "" {
			said[key] = value
		}
	}
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(said)) {
		pairs = append(pairs, key+" "+base64.StdEncoding.EncodeToString([]byte(said[key])))
	}
	return strings.Join(pairs, ",")
}

// Metadata that is taken says the same when it is written anew, whatever its values hold.
func FuzzUploadMetadata(f *testing.F) {
	for _, seed := range []string{
		"filename ZmlsbS5tcDQ=,filetype dmlkZW8vbXA0,album Nw==", "name YQ==,type YQ==", "filename ZmlsbS5tcDQ=,filename YQ==", "is_confidential", "filename ", "tags YSwsYiBjLA==,provider YQ==,resource_type YQ==",
		",", "a b c", "filename !!!!", "filename /w==", "filename\tYQ==", strings.Repeat("a YQ==,", 60), "filename YQ==\u00a0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		read := func(header string) (r ingest.Request, err error) {
			with(func(c *fiber.Ctx) { r, err = tusRequest(c) }, "Upload-Metadata: "+header)
			return r, err
		}
		r, err := read(header)
		if err != nil {
			wantCoded(t, header, err)
			return
		}
		for key, value := range r.Metadata {
			if value == "" || strings.ContainsAny(key, " ,\r\n") || key == "" {
				t.Errorf("%q says %q=%q", header, key, value)
			}
		}
		if again, err := read(metadataOf(r)); err != nil || !reflect.DeepEqual(again, r) {
			t.Errorf("%q says %+v, and written anew %+v, %v", header, r, again, err)
		}
	})
}

// What a header of a tus client's is taken for, it is when it is written anew.
func FuzzTusHeaders(f *testing.F) {
	const id = "0193f1c2-0000-7000-8000-000000000000"
	for _, seed := range []string{
		"0", "11", "-1", "+1", "007", "1e3", "99999999999999999999", " 1", "1 ", "0x10",
		"sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=", "sha256 AAAA", "crc32c yZRlqg==", "md5 AAAA", "sha1", "SHA1 qvTGHdzF6KLavt4PO0gs2a6pQ00=", "sha1  qvTGHdzF6KLavt4PO0gs2a6pQ00= ",
		"partial", "final;", "final;/v1/tus/" + id + " https://media.example.com/v1/tus/" + id, "final;" + id, "final;/v1/tus/../tus/" + id, "final;/v1/tus/%2e%2e", "partial;x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		with(func(c *fiber.Ctx) {
			n, err := wholeNumber(c, "Upload-Length")
			if err != nil {
				wantCoded(t, header, err)
			} else if n < 0 || strings.TrimLeft(header, "0") != strings.TrimLeft(strconv.FormatInt(n, 10), "0") {
				t.Errorf("%q is the number %d", header, n)
			}
			if n, err := declaredLength(c); err == nil && n < 0 {
				t.Errorf("%q is the length %d", header, n)
			}
		}, "Upload-Length: "+header)

		checksum := func(header string) (d ingest.Digest, declared bool, err error) {
			with(func(c *fiber.Ctx) { d, declared, err = checksumOf(c) }, "Upload-Checksum: "+header)
			return d, declared, err
		}
		if d, declared, err := checksum(header); err != nil {
			wantCoded(t, header, err)
		} else if declared {
			name, sum, _ := strings.Cut(header, " ")
			bytesOf, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(sum))
			again, _, err := checksum(name + " " + base64.StdEncoding.EncodeToString(bytesOf))
			if err != nil || !bytes.Equal(again.SHA1, d.SHA1) || !bytes.Equal(again.SHA256, d.SHA256) || !bytes.Equal(again.CRC32C, d.CRC32C) || len(d.SHA1)+len(d.SHA256)+len(d.CRC32C) == 0 {
				t.Errorf("%q is %+v, and written anew %+v, %v", header, d, again, err)
			}
		}

		concat := func(header string) (partial bool, pieces []upload.ID, err error) {
			with(func(c *fiber.Ctx) { partial, pieces, err = concatOf(c) }, "Upload-Concat: "+header)
			return partial, pieces, err
		}
		partial, pieces, err := concat(header)
		switch {
		case err != nil:
			wantCoded(t, header, err)
		case partial && pieces != nil:
			t.Errorf("%q is partial, and of %v", header, pieces)
		case pieces != nil:
			written := finalConcat
			for _, id := range pieces {
				if _, err := upload.ParseID(string(id)); err != nil {
					t.Errorf("%q is of %q", header, id)
				}
				written += " " + tusPath + string(id)
			}
			if _, again, err := concat(written); err != nil || !slices.Equal(again, pieces) {
				t.Errorf("%q is of %v, and written anew of %v, %v", header, pieces, again, err)
			}
		}
	})
}
