package client

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"slipway/internal/upload"
)

func TestWhatEndsAnUploadIsAskedUntilItIsAnswered(t *testing.T) {
	for name, first := range map[string]http.HandlerFunc{
		"when the answer is lost":     cut(0),
		"when a proxy does not know":  reply(502, ""),
		"when the service restarts":   problem(503, upload.Draining, `,"retryable":true`),
		"when the database went away": problem(503, upload.Unavailable, `,"retryable":true,"upload_id":"`+string(id)+`"`),
	} {
		t.Run(name, func(t *testing.T) {
			for want, end := range map[string]func(*Client) (Upload, error){
				"POST /v1/uploads/" + string(id) + "/cancel": func(c *Client) (Upload, error) { return c.Cancel(t.Context(), id) },
				"DELETE /v1/uploads/" + string(id):           func(c *Client) (Upload, error) { return c.Delete(t.Context(), id) },
			} {
				var calls atomic.Int32
				c := serve(t, answers(&calls, first, func(w http.ResponseWriter, r *http.Request) {
					if got := r.Method + " " + r.URL.Path; got != want {
						t.Errorf("it asked %s, want %s", got, want)
					}
					reply(202, uploadJSON(upload.Canceled, 2))(w, r)
				}))
				if u, err := end(c.Client); err != nil || u.Status != upload.Canceled || calls.Load() != 2 {
					t.Errorf("asked %d times: %v, %v", calls.Load(), u, err)
				}
			}
		})
	}
}

func TestRetryNamesAProvider(t *testing.T) {
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = r.Header.Get("Content-Type") + " " + string(b)
		reply(202, uploadJSON(upload.Queued, 5))(w, r)
	})
	for provider, want := range map[string]string{"": " ", "cloudinary": `application/json {"provider":"cloudinary"}`} {
		if _, err := c.Retry(t.Context(), id, provider); err != nil || body != want {
			t.Errorf("it sent %q, want %q (%v)", body, want, err)
		}
	}
}

func TestAnInterruptedEndIsNotRepeated(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var calls atomic.Int32
	c := serve(t, func(http.ResponseWriter, *http.Request) {
		calls.Add(1)
		cancel()
		panic(http.ErrAbortHandler)
	})
	if _, err := c.Cancel(ctx, id); err == nil || calls.Load() != 1 {
		t.Errorf("asked %d times, %v", calls.Load(), err)
	}
}
