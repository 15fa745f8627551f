package uploadcare

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

const testDeliverySecret = "73636b61519adede42191efe1e73f02a67c7b692e3765f90c250c230be095211"

// The values are those of the official Python client's tests.
func TestDeliverySignaturesAreTheDocumentedOnes(t *testing.T) {
	const path = "/52da3bfc-7cd8-4861-8b05-126fef7a6994/"
	for acl, want := range map[string]string{
		path: "81852547d9dbd9eefd24bee2cada6eab02244b9013533bc8511511923098df72",
		path + "-/resize/640x/other/transformations/": "a3ae2b3e3adfcb5d41ca753598e19d17264ac87d2b0b828ccdac5136e63f2f1a",
	} {
		if got := deliverySignature(testDeliverySecret, 1633997100, acl); got != want {
			t.Errorf("%s: %s, want %s", acl, got, want)
		}
	}
}

func TestSecureDelivery(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{SecureDelivery: true, DeliverySecret: testDeliverySecret})
	id := putFile(t, sim, []byte("0123456789"), nil)
	other := putFile(t, sim, []byte("x"), nil)
	soon := time.Now().Add(time.Hour).Unix()
	token := func(exp int64, acl string) string {
		return fmt.Sprintf("?token=exp=%d~acl=%s~hmac=%s", exp, acl, deliverySignature(testDeliverySecret, exp, acl))
	}
	plain, preview := "/"+id+"/", "/"+id+"/-/preview/300x300/"
	tests := map[string]struct {
		target string
		want   int
	}{
		"a token opens its path":                    {plain + token(soon, plain), 200},
		"a picture's token opens the picture":       {preview + token(soon, preview), 200},
		"a token for all of a file opens a picture": {preview + token(soon, plain+"*"), 200},
		"a token for all opens anything":            {plain + token(soon, "/*"), 200},
		"a file's token does not open its pictures": {preview + token(soon, plain), 403},
		"another file's token does not":             {plain + token(soon, "/"+other+"/"), 403},
		"no token does not":                         {plain, 403},
		"nor does one that is over":                 {plain + token(time.Now().Unix()-1, plain), 403},
		"nor one whose end was moved":               {plain + fmt.Sprintf("?token=exp=%d~acl=%s~hmac=%s", soon+1, plain, deliverySignature(testDeliverySecret, soon, plain)), 403},
		"nor one without a path":                    {plain + fmt.Sprintf("?token=exp=%d~hmac=%s", soon, deliverySignature(testDeliverySecret, soon, "")), 403},
		"nor nonsense":                              {plain + "?token=x", 403},
		"nothing is told of files that are not":     {"/21975c81-7f57-4c7a-aef9-acfe28779f78/", 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if a := do(t, http.MethodGet, sim.URL+tt.target, nil, nil); a.StatusCode != tt.want {
				t.Errorf("%d %s, want %d", a.StatusCode, a.body, tt.want)
			}
		})
	}

	t.Run("a token ends on the simulator's clock", func(t *testing.T) {
		sim.Controls.Clock.Advance(time.Hour)
		if a := do(t, http.MethodGet, sim.URL+plain+token(soon, plain), nil, nil); a.StatusCode != 403 {
			t.Errorf("%d, want 403", a.StatusCode)
		}
	})
	t.Run("it can be switched off", func(t *testing.T) {
		if err := sim.Configure(func(c *Config) { c.SecureDelivery = false }); err != nil {
			t.Fatal(err)
		}
		if a := do(t, http.MethodGet, sim.URL+plain, nil, nil); a.StatusCode != 200 {
			t.Errorf("%d, want 200", a.StatusCode)
		}
	})
	t.Run("it is not to be had without a secret", func(t *testing.T) {
		for _, secret := range []string{"", "canary"} {
			if err := sim.Configure(func(c *Config) { c.SecureDelivery, c.DeliverySecret = true, secret }); err == nil {
				t.Errorf("%q was taken", secret)
			}
		}
	})
}
