package sign

import (
	"net/url"
	"testing"
)

// The expected values are those of Cloudinary's guides and of its Node and Go SDKs' own tests.

func TestRequest(t *testing.T) {
	const ts = "1315060510"
	tests := map[string]struct {
		key    Key
		params url.Values
		want   string
	}{
		"a timestamp alone is signed": {
			Key{Secret: "abcd"}, url.Values{"timestamp": {ts}},
			"a21ad0f63beb4de2e5575204b79ab90bffb02c10",
		},
		"parameters are sorted and not encoded": {
			Key{Secret: "abcd"},
			url.Values{"timestamp": {ts}, "public_id": {"sample_image"}, "eager": {"w_400,h_300,c_pad|w_260,h_200,c_crop"}},
			"bfd09f95f331f558cbd1320e67aa8d488770583e",
		},
		"an account may sign with SHA-256": {
			Key{Secret: "abcd", Algorithm: SHA256}, url.Values{"timestamp": {ts}},
			"5652e549a70bdc03f73a633a23b7d3f3b067d72fff26dd15b25997f46fdf6439",
		},
		"version 1 leaves an ampersand as it is": {
			Key{Secret: "abcd", Version: 1}, url.Values{"timestamp": {ts}, "public_id": {"a&b=c"}},
			"dad99adefe46273a19f156186cb348cba32d2e7f",
		},
		"version 2 is the default and encodes an ampersand": {
			Key{Secret: "abcd"}, url.Values{"timestamp": {ts}, "public_id": {"a&b=c"}},
			"bec5d3d600ca196c06f6fb47e3a0b03cc686ac92",
		},
		"several values are joined by commas": {
			Key{Secret: "abcd"}, url.Values{"timestamp": {ts}, "tags": {"a", "b"}},
			"65164dbf37d1fee0fd0a62608ca9a4f200ea87dd",
		},
		"a joined value is the same as several": {
			Key{Secret: "abcd"}, url.Values{"timestamp": {ts}, "tags": {"a,b"}},
			"65164dbf37d1fee0fd0a62608ca9a4f200ea87dd",
		},
		"what is not covered changes nothing": {
			Key{Secret: "abcd"},
			url.Values{
				"timestamp": {ts}, "file": {"x"}, "cloud_name": {"demo"}, "resource_type": {"raw"},
				"api_key": {"1"}, "signature": {"0"}, "tags": {""},
			},
			"a21ad0f63beb4de2e5575204b79ab90bffb02c10",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.key.Request(tt.params)
			if err != nil || got != tt.want {
				t.Errorf("Request(%v) = %s, %v, want %s", tt.params, got, err, tt.want)
			}
		})
	}
}

func TestRequestNeedsATimestamp(t *testing.T) {
	params := url.Values{"public_id": {"a"}}
	if got, err := (Key{Secret: "abcd"}).Request(params); err == nil {
		t.Errorf("Request without a timestamp = %s, want an error", got)
	}
	if len(params) != 1 {
		t.Errorf("Request changed its argument to %v", params)
	}
}

func TestValidResponse(t *testing.T) {
	const (
		secret  = "hdcixPpR2iKERPwqvH6sHdK9cyac"
		id      = "b8sjhoslj8cq8ovoa0ma"
		version = "1555337587"
		sha1    = "3e974ccf50d4d1b195d2046c95994fe50ff81267"
		sha256  = "80f837513994d089160b01dd3ee04e6b86f127f75fab820dca5c15057deddc48"
	)
	tests := map[string]struct {
		key                    Key
		id, version, signature string
		want                   bool
	}{
		"an answer's own signature is good":        {Key{Secret: secret}, id, version, sha1, true},
		"so is SHA-256 where the account has it":   {Key{Secret: secret, Algorithm: SHA256}, id, version, sha256, true},
		"the other algorithm is not":               {Key{Secret: secret}, id, version, sha256, false},
		"another id is not":                        {Key{Secret: secret}, id + "x", version, sha1, false},
		"another version is not":                   {Key{Secret: secret}, id, "1555337588", sha1, false},
		"another secret is not":                    {Key{Secret: "abcd"}, id, version, sha1, false},
		"no signature is not":                      {Key{Secret: secret}, id, version, "", false},
		"a version that is no number is not":       {Key{Secret: secret}, id, version + "&x=1", sha1, false},
		"an id that could hide a parameter is not": {Key{Secret: secret}, "callback?a=1&tags=hello,world", "1568810420", "8bda7afdf8ccf991581ddb4782598cf2fc915b8f", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.key.ValidResponse(tt.id, tt.version, tt.signature); got != tt.want {
				t.Errorf("ValidResponse(%q, %q, %q) = %t, want %t", tt.id, tt.version, tt.signature, got, tt.want)
			}
		})
	}
}

func TestValidNotification(t *testing.T) {
	const (
		sample = "{public_id: 'sample'}"
		at     = "1315060510"
		sha1   = "25f7e91709c858b97d688ce8da799dedb290d9ef"
		other  = `{"public_id":"b8sjhoslj8cq8ovoa0ma","version":"1555337587","width":1000,"height":800}`
		sha256 = "6c5a29fd8815772fbac2f10ae741e093d0859313947ef8fadeb29126ded6649c"
	)
	tests := map[string]struct {
		secret, body, timestamp, signature string
		want                               bool
	}{
		"a notification's own signature is good":  {"abcd", sample, at, sha1, true},
		"so is SHA-256 where the account has it":  {"hardcoded", other, "7952342400000", sha256, true},
		"another body's is not":                   {"abcd", sample + "\n", at, sha1, false},
		"another time's is not":                   {"abcd", sample, "1315060511", sha1, false},
		"another secret's is not":                 {"abce", sample, at, sha1, false},
		"a time with a sign before it is not":     {"abcd", sample, "+" + at, sha1, false},
		"only the body ends where the time goes":  {"abcd", sample + "1", at[1:], sha1, true},
		"capitals are not":                        {"abcd", sample, at, "25F7E91709C858B97D688CE8DA799DEDB290D9EF", false},
		"none is not":                             {"abcd", sample, at, "", false},
		"a signature without a time is not":       {"abcd", sample, "", sha1, false},
		"a signature that is cut is not":          {"abcd", sample, at, sha1[:20], false},
		"SHA-1 with another's length is not":      {"abcd", sample, at, sha1 + sha1[:24], false},
		"one of a body without bytes is not this": {"abcd", "", at, sha1, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := (Key{Secret: tt.secret}).ValidNotification([]byte(tt.body), tt.timestamp, tt.signature); got != tt.want {
				t.Errorf("ValidNotification(%q, %q, %q) = %t, want %t", tt.body, tt.timestamp, tt.signature, got, tt.want)
			}
		})
	}
}

func TestDelivery(t *testing.T) {
	const path = "c_fill,w_300,h_250/e_grayscale/sample-authenticated.png"
	k := Key{Secret: "abcd"}
	if got, want := k.Delivery(path), "s--iDy_JeBq--"; got != want {
		t.Errorf("Delivery(%q) = %s, want %s", path, got, want)
	}
	if got, want := k.LongDelivery(path), "s--rSONCRLG4ccXuDWJFo2tesw1VRfC94bD--"; got != want {
		t.Errorf("LongDelivery(%q) = %s, want %s", path, got, want)
	}
}
