package sign

import (
	"strings"
	"testing"
	"time"
)

func TestUpload(t *testing.T) {
	tests := map[string]struct {
		secret string
		expire int64
		want   string
	}{
		"official JavaScript client's value": {"YOUR_SECRET_KEY", 1678361640, "93b69d086a487fbdfc36172b96a5d7f5afa7cb209e43e5f25890bc037e638584"},
		"official Go client's value":         {"project_secret_key", 1454903856, "d39a461d41f607338abffee5f31da4d4e46535651c87346e76906bf75c064d47"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Upload(tt.secret, time.Unix(tt.expire, 0)); got != tt.want {
				t.Errorf("Upload = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestValidWebhook(t *testing.T) {
	const (
		secret = "7kMVZivndx0ErgvhRKAr"
		body   = `{"a":1}`
		good   = "v1=57084b8c5914ea9aadbc95e1701be1bd67b2d123d816ce624bb34aa36308b900"
	)
	tests := map[string]struct {
		secret, body, header string
		want                 bool
	}{
		"a notification's own signature is good": {secret, body, good, true},
		"another body's is not":                  {secret, body + "\n", good, false},
		"another secret's is not":                {secret + "x", body, good, false},
		"one without its version is not":         {secret, body, good[3:], false},
		"another version is not":                 {secret, body, "v2=" + good[3:], false},
		"capitals are not":                       {secret, body, strings.ToUpper(good), false},
		"none is not":                            {secret, body, "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ValidWebhook(tt.secret, []byte(tt.body), tt.header); got != tt.want {
				t.Errorf("ValidWebhook(%q, %q) = %t, want %t", tt.body, tt.header, got, tt.want)
			}
		})
	}
}

func TestCDNHost(t *testing.T) {
	for key, prefix := range map[string]string{
		"demopublickey":        "1s4oyld5dc",
		"c8c237984266090ff9b8": "127mbvwq3b",
		"3e6ba70c0670de3bef7a": "u51bthcx6t",
		"823a5ae6eb3afa5b353f": "ggiwfssv31",
	} {
		if got := CDNHost(key); got != prefix+".ucarecd.net" {
			t.Errorf("CDNHost(%q) = %s, want the prefix %s", key, got, prefix)
		}
	}
}

func TestDelivery(t *testing.T) {
	const secret = "73636b61519adede42191efe1e73f02a67c7b692e3765f90c250c230be095211"
	exp := time.Unix(1633997100, 0)

	t.Run("a path is signed as the official Python client does", func(t *testing.T) {
		const want = "exp=1633997100~acl=/52da3bfc-7cd8-4861-8b05-126fef7a6994/" +
			"~hmac=81852547d9dbd9eefd24bee2cada6eab02244b9013533bc8511511923098df72"
		got, err := Delivery(secret, "/52da3bfc-7cd8-4861-8b05-126fef7a6994/", exp)
		if err != nil || got != want {
			t.Errorf("Delivery = %s, %v, want %s", got, err, want)
		}
	})
	t.Run("a group's tilde is escaped, because tildes separate the token's fields", func(t *testing.T) {
		got, err := Delivery(secret, "/52da3bfc-7cd8-4861-8b05-126fef7a6994~3/", exp)
		if err != nil || !strings.Contains(got, "%7e3/~hmac=") {
			t.Errorf("Delivery = %s, %v", got, err)
		}
	})
	t.Run("a secret that is not hexadecimal is refused without being told", func(t *testing.T) {
		_, err := Delivery("canary", "/*", exp)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("Delivery = %v", err)
		}
	})
}
