package push_test

import (
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/providersim"
	"slipway/internal/upload"
)

// small is a file that goes in one request.
func small(string) []byte { return random(1000) }

func TestARetryGoesOnFromTheLedger(t *testing.T) {
	for name := range calls {
		t.Run(name, func(t *testing.T) {
			y := newYard(t)
			d := y.desk(t)
			y.settings.PartsInFlight = 1
			y.worker(t)
			y.ingest.MaxAttempts = 1
			content := large(name)
			lastPart := map[string]string{"uploadcare": "a part", "cloudinary": "the completing call"}[name]
			y.faults(t, name, []fault{{call: lastPart, action: providersim.Answer, status: 503}, {call: "the lookup", action: providersim.Answer, status: 503}})
			u := y.awaitStatus(t, y.accept(t, name, content).ID, upload.Failed)
			if u.Pushed == 0 || u.Pushed == u.Size {
				t.Fatalf("it has failed with %d of %d bytes pushed", u.Pushed, u.Size)
			}
			y.controls[name].Faults.Clear()
			y.controls[name].Requests.Clear()
			if r := d.retries(t, u.ID, `{}`); r.status != 202 || r.Status != upload.Queued {
				t.Fatalf("the answer is %+v", r)
			}
			y.awaitStatus(t, u.ID, upload.Completed)
			y.delivered(t, name, content)
			var sent int64
			for _, r := range y.controls[name].Requests.Find("", nil) {
				sent += r.Received
			}
			if missing := u.Size - u.Pushed; sent < missing || sent > missing+64<<10 {
				t.Errorf("%d bytes were sent for the %d that were missing", sent, missing)
			}
		})
	}
}

func TestARetryAtAnotherProvider(t *testing.T) {
	others := map[string]string{"uploadcare": "cloudinary", "cloudinary": "uploadcare"}
	tests := map[string]struct {
		faults  []fault
		content func(name string) []byte
		refused upload.Code
	}{
		"after it stopped in the middle":    {[]fault{{call: "a part", action: providersim.Answer, status: 503}}, large, ""},
		"after the file was refused":        {[]fault{{call: "the whole file", action: providersim.Answer, status: 400, body: `{"error":{"message":"This type is not allowed."}}`}}, small, ""},
		"while the first may have the file": {[]fault{unheard, again, mute}, large, upload.MayBeStored},
	}
	for name, other := range others {
		for what, tt := range tests {
			t.Run("instead of "+name+", "+what, func(t *testing.T) {
				t.Parallel()
				y := newYard(t)
				d := y.desk(t)
				y.worker(t)
				y.ingest.MaxAttempts = 1
				y.faults(t, name, tt.faults)
				content := tt.content(name)
				u := y.awaitStatus(t, y.accept(t, name, content).ID, upload.Failed)

				r := d.retries(t, u.ID, `{"provider":"`+other+`"}`)
				if r.Code != tt.refused {
					t.Fatalf("the answer is %+v, want %q", r, tt.refused)
				}
				if tt.refused != "" {
					if now, err := postgres.UploadOf(t.Context(), y.pool, u.ID); err != nil || now.Provider != name || now.Version != u.Version || now.Pushed != u.Pushed {
						t.Errorf("refused, it is %+v, %v", now, err)
					}
					return
				}
				now := y.awaitStatus(t, u.ID, upload.Completed)
				y.delivered(t, other, content)
				if left := y.lasting(t, name); len(left) > 0 || now.Provider != other || now.Pushed != now.Size {
					t.Errorf("it is at %s, %d of %d bytes; %s keeps %v", now.Provider, now.Pushed, now.Size, name, left)
				}
				if r := d.deletes(t, u.ID); r.Status != upload.Deleting {
					t.Errorf("deleted, the answer is %+v", r)
				}
				y.awaitStatus(t, u.ID, upload.Deleted)
				y.cleared(t, other, u.ID)
			})
		}
	}
}

func TestARetryIsRefused(t *testing.T) {
	y := newYard(t)
	d := y.desk(t)
	u := y.accept(t, "uploadcare", random(1000))
	if _, err := y.pool.Exec(t.Context(), `UPDATE slipway.uploads SET status = 'failed' WHERE id = $1`, u.ID); err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]upload.Code{
		`{"provider":"dropbox"}`: upload.UnknownProvider,
		`{"provider":7}`:         upload.InvalidRequest,
		`provider=cloudinary`:    upload.InvalidRequest,
	} {
		if r := d.retries(t, u.ID, body); r.Code != want {
			t.Errorf("%s is answered with %+v, want %s", body, r, want)
		}
	}
	if now, err := postgres.UploadOf(t.Context(), y.pool, u.ID); err != nil || now.Status != upload.Failed {
		t.Errorf("it is %s, %v", now.Status, err)
	}
}
