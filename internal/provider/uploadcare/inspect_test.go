package uploadcare_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"slipway/internal/upload"
)

const aFile = `{"uuid":"21975c81-7f57-4c7a-aef9-acfe28779f78","size":5,"mime_type":"text/plain","is_ready":true,"original_filename":"a.txt",
	"datetime_uploaded":"2018-11-26T12:49:10.477888Z","datetime_stored":"2018-11-26T12:49:11.477888Z","metadata":{},"appdata":%s}`

func TestWhatTheVirusCheckHasFound(t *testing.T) {
	for name, tt := range map[string]struct{ appdata, want string }{
		"a virus":                    {`{"uc_clamav_virus_scan":{"data":{"infected":true,"infected_with":"Win.Test.EICAR_HDB-1"}}}`, "Win.Test.EICAR_HDB-1"},
		"a virus without a name":     {`{"uc_clamav_virus_scan":{"data":{"infected":true}}}`, "of a name that is not told"},
		"nothing":                    {`{"uc_clamav_virus_scan":{"data":{"infected":false}}}`, ""},
		"nothing, for nobody looked": {`{}`, ""},
		"nothing, and says so":       {`null`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, opts := project(t)
			opts.Transport = answer(func(r *http.Request) (*http.Response, error) {
				defer r.Body.Close()
				if r.URL.RawQuery != "include=appdata" {
					t.Errorf("asked for %s", r.URL)
				}
				return respond(200, http.Header{"Content-Type": {"application/json"}}, fmt.Sprintf(aFile, tt.appdata)), nil
			})
			found, err := open(t, opts).Inspect(limited(t), "21975c81-7f57-4c7a-aef9-acfe28779f78", "")
			if err != nil || found == nil || found.Infected != tt.want {
				t.Errorf("got %+v, %v, want %q", found, err, tt.want)
			}
		})
	}
}

func TestAMarkedFileIsFoundOnWhateverPage(t *testing.T) {
	const mark = "0193f1c2-3d4e-7f5a-8b6c-7d8e9f0a1b2c"
	page := func(next, mark string) string {
		return fmt.Sprintf(`{"next":%s,"results":[{"uuid":"f-%s","metadata":{"slipway_upload":%q}}]}`, next, mark, mark)
	}
	_, opts := project(t)
	var asked []string
	opts.Transport = answer(func(r *http.Request) (*http.Response, error) {
		defer r.Body.Close()
		asked = append(asked, r.URL.RawQuery)
		body := page(`"https://api.uploadcare.com/files/?from=2&limit=1000"`, "another")
		if strings.HasPrefix(r.URL.RawQuery, "from=2&") {
			body = page("null", mark)
		}
		return respond(200, http.Header{"Content-Type": {"application/json"}}, body), nil
	})
	p := open(t, opts)
	id, err := p.Marked(limited(t), mark, time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC))
	if err != nil || id != "f-"+mark || len(asked) != 2 || !strings.Contains(asked[0], "from=2026-11-21T20%3A00%3A00.000000") || !strings.Contains(asked[0], "stored=false") {
		t.Errorf("got %q, %v, having asked for %q", id, err, asked)
	}
	if id, err := p.Marked(limited(t), upload.NewID(), time.Now()); id != "" || err != nil {
		t.Errorf("of what nobody has sent got %q, %v", id, err)
	}
}
