package sign

import (
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// A notification is taken with a signature of its body and its time, and with no other.
func FuzzValidNotification(f *testing.F) {
	f.Add([]byte(`{"notification_type":"upload"}`), "1700000000", "")
	f.Add([]byte("a1"), "7", strings.Repeat("0", 64))
	f.Add([]byte(nil), "-1", "x")
	f.Add([]byte("a"), "+17", "")
	f.Fuzz(func(t *testing.T, body []byte, timestamp, signature string) {
		k := Key{Secret: "secret"}
		at, err := strconv.ParseUint(timestamp, 10, 63)
		of := map[string]string{}
		for _, algorithm := range []string{SHA1, SHA256} {
			k := Key{Secret: "secret", Algorithm: algorithm}
			of[algorithm] = hex.EncodeToString(k.sum(string(body) + timestamp))
			if k.ValidNotification(body, timestamp, of[algorithm]) != (err == nil) {
				t.Errorf("%q of %q with its own signature is taken for %t", body, timestamp, err != nil)
			}
		}
		if k.ValidNotification(body, timestamp, signature) && signature != of[SHA1] && signature != of[SHA256] {
			t.Errorf("%q of %q is taken with %q", body, timestamp, signature)
		}
		if err == nil && k.ValidNotification(body, strconv.FormatUint(at+1, 10), of[SHA256]) {
			t.Errorf("the signature of %q is good for another time", timestamp)
		}
	})
}

// An answer to an upload is believed with a signature of its id and version, which no other pair has.
func FuzzValidResponse(f *testing.F) {
	f.Add("a/b", "1700000000", "a", "17")
	f.Add("a&version=1", "7", "a", "1&version=7")
	f.Add("a", "1", "a", "01")
	f.Fuzz(func(t *testing.T, publicID, version, otherID, otherVersion string) {
		k := Key{Secret: "secret"}
		signature := hex.EncodeToString(k.sum("public_id=" + publicID + "&version=" + version))
		same := publicID == otherID && version == otherVersion
		if k.ValidResponse(publicID, version, signature) && k.ValidResponse(otherID, otherVersion, signature) && !same {
			t.Errorf("%q %q and %q %q have one signature", publicID, version, otherID, otherVersion)
		}
	})
}

// Whatever a row says of an asset, its link leads to the same server, and a signed one to what its id names.
func FuzzLinks(f *testing.F) {
	f.Add("folder/film", "https://res.cloudinary.com/cloud/video/authenticated/s--AAAAAAAA--/v17/folder/film.mp4", "video/mp4", 300)
	f.Add("a", "https://res.cloudinary.com/cloud/image/upload/v1/a.pdf", "", 0)
	f.Add("p%C3%A8re", "https://res.cloudinary.com/cloud/raw/private/p%C3%A8re", "", 5)
	f.Add("a", "/image/upload/%zz", "image/png", 1)
	f.Fuzz(func(t *testing.T, id, address, contentType string, width int) {
		l := Links{Key: Key{Secret: "secret"}}
		got, err := l.Link(upload.Asset{ID: id, URL: address, ContentType: contentType}, provider.Transform{Width: max(width, 0) % 3000}, time.Time{})
		if err != nil {
			return
		}
		before, badAddress := url.Parse(address)
		after, badLink := url.Parse(got.URL)
		switch {
		case badAddress != nil:
		case badLink != nil, before.Host != after.Host, before.Scheme != after.Scheme:
			t.Errorf("%q is led to %q, %v", address, got.URL, badLink)
		case got.Signed && !strings.Contains(after.Path, "/s--"):
			t.Errorf("%q is signed as %q", address, got.URL)
		}
		if plain := Plain(got.URL); Plain(plain) != plain {
			t.Errorf("%q without its signature is %q, and without it again %q", got.URL, plain, Plain(plain))
		}
	})
}
