package cloudinary

import "testing"

// The vectors of "Generating authentication signatures" and of the SDKs' own tests.
func TestRequestSignature(t *testing.T) {
	const at = "1315060510"
	tests := map[string]struct {
		params    params
		version   int
		algorithm string
		want      string
	}{
		"a timestamp alone": {
			params{"timestamp": {at}}, 2, "sha1", "a21ad0f63beb4de2e5575204b79ab90bffb02c10",
		},
		"several parameters, sorted": {
			params{"timestamp": {at}, "public_id": {"sample_image"}, "eager": {"w_400,h_300,c_pad|w_260,h_200,c_crop"}},
			2, "sha1", "bfd09f95f331f558cbd1320e67aa8d488770583e",
		},
		"by SHA-256": {
			params{"timestamp": {at}}, 2, "sha256", "5652e549a70bdc03f73a633a23b7d3f3b067d72fff26dd15b25997f46fdf6439",
		},
		"an & in a value, version 1": {
			params{"timestamp": {at}, "public_id": {"a&b=c"}}, 1, "sha1", "dad99adefe46273a19f156186cb348cba32d2e7f",
		},
		"an & in a value, version 2": {
			params{"timestamp": {at}, "public_id": {"a&b=c"}}, 2, "sha1", "bec5d3d600ca196c06f6fb47e3a0b03cc686ac92",
		},
		"an array": {
			params{"timestamp": {at}, "tags": {"a", "b"}}, 2, "sha1", "65164dbf37d1fee0fd0a62608ca9a4f200ea87dd",
		},
		"an array written with commas": {
			params{"timestamp": {at}, "tags": {"a,b"}}, 2, "sha1", "65164dbf37d1fee0fd0a62608ca9a4f200ea87dd",
		},
		"an array with empty items": {
			params{"timestamp": {at}, "tags": {"a", "", "b"}}, 2, "sha1", "65164dbf37d1fee0fd0a62608ca9a4f200ea87dd",
		},
		"what is never signed, and what is empty": {
			params{
				"timestamp": {at}, "file": {"x"}, "cloud_name": {"x"}, "resource_type": {"raw"},
				"api_key": {"1"}, "signature": {"x"}, "tags": {""},
			}, 2, "sha1", "a21ad0f63beb4de2e5575204b79ab90bffb02c10",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sign(stringToSign(tt.params, tt.version), "abcd", tt.algorithm); got != tt.want {
				t.Errorf("%s signs as %s, want %s", stringToSign(tt.params, tt.version), got, tt.want)
			}
		})
	}
}

func TestAnswerSignature(t *testing.T) {
	const secret = "hdcixPpR2iKERPwqvH6sHdK9cyac"
	tests := map[string]struct {
		publicID  string
		version   int64
		algorithm string
		want      string
	}{
		"by SHA-1":      {"b8sjhoslj8cq8ovoa0ma", 1555337587, "sha1", "3e974ccf50d4d1b195d2046c95994fe50ff81267"},
		"by SHA-256":    {"b8sjhoslj8cq8ovoa0ma", 1555337587, "sha256", "80f837513994d089160b01dd3ee04e6b86f127f75fab820dca5c15057deddc48"},
		"an & as it is": {"callback?a=1&tags=hello,world", 1568810420, "sha1", "8bda7afdf8ccf991581ddb4782598cf2fc915b8f"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := signAnswer(tt.publicID, tt.version, secret, tt.algorithm); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNotificationSignature(t *testing.T) {
	tests := map[string]struct {
		body      string
		timestamp int64
		secret    string
		algorithm string
		want      string
	}{
		"by SHA-1": {"{public_id: 'sample'}", 1315060510, "abcd", "sha1", "25f7e91709c858b97d688ce8da799dedb290d9ef"},
		"by SHA-256": {
			`{"public_id":"b8sjhoslj8cq8ovoa0ma","version":"1555337587","width":1000,"height":800}`,
			7952342400000, "hardcoded", "sha256", "6c5a29fd8815772fbac2f10ae741e093d0859313947ef8fadeb29126ded6649c",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := signNotification(tt.body, tt.timestamp, tt.secret, tt.algorithm); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestDeliverySignature(t *testing.T) {
	const path = "c_fill,w_300,h_250/e_grayscale/sample-authenticated.png"
	for algorithm, want := range map[string]string{
		"sha1": "s--iDy_JeBq--", "sha256": "s--rSONCRLG4ccXuDWJFo2tesw1VRfC94bD--",
	} {
		if got := signDelivery(path, "abcd", algorithm); got != want {
			t.Errorf("by %s: %s, want %s", algorithm, got, want)
		}
	}
}
