package sign

import (
	"encoding/hex"
	"net/url"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// A notification is taken with the signature that its secret makes of its body, and with no other.
func FuzzValidWebhook(f *testing.F) {
	f.Add("secret", []byte(`{"a":1}`), "v1=57084b8c5914ea9aadbc95e1701be1bd67b2d123d816ce624bb34aa36308b900")
	f.Add("", []byte(nil), "v1=")
	f.Add("s", []byte("\x00"), "v2=00")
	f.Fuzz(func(t *testing.T, secret string, body []byte, header string) {
		good := "v1=" + hexHMAC([]byte(secret), string(body))
		if !ValidWebhook(secret, body, good) {
			t.Errorf("%q is refused its own signature", body)
		}
		if ValidWebhook(secret, body, header) != (header == good) {
			t.Errorf("%q with %q is taken for %t", body, header, header != good)
		}
		if ValidWebhook(secret, append([]byte{'x'}, body...), good) || ValidWebhook(secret+"x", body, good) {
			t.Errorf("the signature of %q is taken for another's", body)
		}
	})
}

// A signed link opens what its file's id names, and nothing else; whatever else a row says is left as it is.
func FuzzSignedLinks(f *testing.F) {
	const id = "52da3bfc-7cd8-4861-8b05-126fef7a6994"
	f.Add(id, "https://ucarecdn.com/"+id+"/", "image/png", 300, 0)
	f.Add(id, "https://ucarecdn.com/"+id+"/-/crop/5x5/~acl=/*~/", "", 0, 0)
	f.Add(id, "https://ucarecdn.com/"+id+"/film.mp4?a=b#c", "video/mp4", 0, 0)
	f.Add(id, "/"+id+"/%", "", 86, 100)
	f.Add("*", "https://ucarecdn.com/*/", "image/png", 1, 1)
	f.Add("..", "//"+id+"/", "", 0, 0)
	f.Fuzz(func(t *testing.T, id, address, contentType string, width, height int) {
		l := Links{Base: "https://cdn.example.com", Secret: "00ff", TTL: time.Minute}
		a := upload.Asset{ID: id, URL: address, ContentType: contentType}
		now := time.Unix(1_700_000_000, 0)
		got, err := l.Link(a, provider.Transform{Width: max(width, 0) % 3000, Height: max(height, 0) % 3000}, now)
		switch {
		case err != nil || !got.Signed && got.URL == address:
			return
		case !got.Signed:
			t.Fatalf("%q is led to %q", address, got.URL)
		}
		rest, isOurs := strings.CutPrefix(got.URL, l.Base+"/"+id+"/")
		_, token, hasToken := strings.Cut(rest, "?token=")
		if !isOurs || !hasToken || strings.Count(token, "~") != 2 {
			t.Fatalf("%+v is led to %q", a, got.URL)
		}
		if _, err := url.Parse(got.URL); err != nil {
			t.Errorf("%+v is led to %q, which is none: %v", a, got.URL, err)
		}
		acl := strings.TrimPrefix(strings.Split(token, "~")[1], "acl=")
		mac := strings.TrimPrefix(strings.Split(token, "~")[2], "hmac=")
		if _, err := hex.DecodeString(mac); err != nil || !strings.HasPrefix(acl, "/"+id+"/") {
			t.Errorf("%+v opens %q with %q", a, acl, mac)
		}
	})
}
