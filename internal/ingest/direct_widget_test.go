package ingest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"slipway/internal/httpapi"
)

func TestTheUploadWidgetsSignature(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.worker(t)
	now := time.Now().Unix()
	mine, foreign := s.signature(t, "ann", "?reserve=1"), s.signature(t, "bob", "?reserve=1")
	type params = map[string]any
	tests := map[string]struct {
		params  params
		refused string // the parameter that is named; "" is signed
	}{
		"the time":                          {params{"timestamp": now}, ""},
		"what the widget sends":             {params{"timestamp": now, "source": "uw"}, ""},
		"a time that is a text":             {params{"timestamp": json.Number("0")}, "timestamp"},
		"labels":                            {params{"timestamp": now, "tags": []string{"a", "b"}, "context": "caption=a|alt=b & c"}, ""},
		"a folder":                          {params{"timestamp": now, "folder": "users/ann", "asset_folder": "users"}, ""},
		"the file's name, made unique":      {params{"timestamp": now, "use_filename": true, "filename_override": "x"}, ""},
		"a reserved name":                   {params{"timestamp": now, "public_id": mine.text("public_id"), "overwrite": false}, ""},
		"a reserved name to be replaced":    {params{"timestamp": now, "public_id": mine.text("public_id")}, "overwrite"},
		"a name that somebody reserved":     {params{"timestamp": now, "public_id": foreign.text("public_id"), "overwrite": false}, "public_id"},
		"a name that nobody reserved":       {params{"timestamp": now, "public_id": "logo", "overwrite": false}, "public_id"},
		"a reserved name elsewhere":         {params{"timestamp": now, "public_id": mine.text("public_id"), "folder": "x"}, "folder"},
		"the folder of the reserved":        {params{"timestamp": now, "folder": installation + "/x"}, "folder"},
		"the file's name as it is":          {params{"timestamp": now, "use_filename": true, "unique_filename": false}, "unique_filename"},
		"the replacement of another":        {params{"timestamp": now, "overwrite": true}, "overwrite"},
		"delivery for everybody":            {params{"timestamp": now, "type": "upload"}, ""},
		"another delivery":                  {params{"timestamp": now, "type": "private"}, "type"},
		"delivery to signed links":          {params{"timestamp": now, "type": "authenticated"}, "type"},
		"a preset":                          {params{"timestamp": now, "upload_preset": "anything"}, "upload_preset"},
		"a call to elsewhere":               {params{"timestamp": now, "notification_url": "https://evil.example"}, "notification_url"},
		"work that costs":                   {params{"timestamp": now, "eager": "w_10000"}, "eager"},
		"another transformation":            {params{"timestamp": now, "transformation": "w_1"}, "transformation"},
		"the API's key":                     {params{"timestamp": now, "api_key": "x"}, "api_key"},
		"no time":                           {params{"source": "uw"}, "timestamp"},
		"a time that is over":               {params{"timestamp": now - 4000}, "timestamp"},
		"a time that is yet to come":        {params{"timestamp": now + 4000}, "timestamp"},
		"a time that is no time":            {params{"timestamp": "soon"}, "timestamp"},
		"an object":                         {params{"timestamp": now, "tags": params{}}, "tags"},
		"a text in two lines":               {params{"timestamp": now, "tags": "a\nb"}, "tags"},
		"a text that is very long":          {params{"timestamp": now, "tags": strings.Repeat("a", 5000)}, "tags"},
		"nothing that is to be signed":      {nil, "timestamp"},
		"a value that poses as a parameter": {params{"timestamp": now, "tags": "a&overwrite=true"}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := s.do(t, "ann", "POST", "/generate-signature", params{"paramsToSign": tt.params})
			if tt.refused != "" {
				if r.status != 422 || !strings.Contains(r.text("detail"), "paramsToSign."+tt.refused) {
					t.Errorf("got %d %v, want 422 naming %s", r.status, r.body, tt.refused)
				}
				return
			}
			if ok(t, r, 200); len(r.body) != 1 {
				t.Errorf("got %v", r.body)
			}
			fields := map[string]string{"api_key": apiKey, "signature": r.text("signature")}
			for name, v := range tt.params {
				if list, isList := v.([]string); isList {
					v = strings.Join(list, ",")
				}
				fields[name] = strings.Trim(string(must[[]byte](t)(json.Marshal(v))), `"`)
			}
			if text, isText := tt.params["tags"].(string); isText {
				fields["tags"] = text
			}
			if text, isText := tt.params["context"].(string); isText {
				fields["context"] = text
			}
			answer := sent(t, s.cloudURL+"/v1_1/"+cloud+"/image/upload", fields, "a.png", picture(t))
			ok(t, s.save(t, "ann", answer.body), 200)
		})
	}
	if r := s.do(t, "ann", "POST", "/generate-signature", "timestamp=1"); r.status != 400 {
		t.Errorf("a body that is no JSON: %d %v", r.status, r.body)
	}
}

func TestTheUploadWidgetWhereFilesOpenOnlyToSignedLinks(t *testing.T) {
	t.Parallel()
	s := open(t, func(a *httpapi.API) { a.Direct.Cloudinary.Type = "authenticated" })
	now := time.Now().Unix()
	type params = map[string]any
	for name, given := range map[string]params{
		"no type":                 {"timestamp": now},
		"delivery for everybody":  {"timestamp": now, "type": "upload"},
		"another kind of private": {"timestamp": now, "type": "private"},
	} {
		if r := s.do(t, "ann", "POST", "/generate-signature", params{"paramsToSign": given}); r.status != 422 || !strings.Contains(r.text("detail"), "paramsToSign.type") {
			t.Errorf("%s: got %d %v, want 422 naming type", name, r.status, r.body)
		}
	}
	reserved := s.signature(t, "ann", "?reserve=1")
	given := params{"timestamp": now, "type": "authenticated", "public_id": reserved.text("public_id"), "overwrite": false}
	r := ok(t, s.do(t, "ann", "POST", "/generate-signature", params{"paramsToSign": given}), 200)
	answer := sent(t, s.cloudURL+"/v1_1/"+cloud+"/image/upload", map[string]string{
		"api_key": apiKey, "signature": r.text("signature"), "timestamp": fmt.Sprint(now), "type": "authenticated", "public_id": reserved.text("public_id"), "overwrite": "false",
	}, "a.png", picture(t))
	if answer.text("type") != "authenticated" || answer.text("public_id") != reserved.text("public_id") {
		t.Errorf("Cloudinary has %v", answer.body)
	}
}
