package httpapi

import (
	"strings"
	"testing"

	"slipway/internal/upload"
)

func TestCancelAnUpload(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	if u.Links.Cancel == nil {
		t.Fatal("an upload that waits has no link to cancel it")
	}
	wantCode(t, s.do(t, "POST", *u.Links.Cancel, nil, as(t, "bob")), 404, upload.NotFound)
	for range 2 {
		r := s.do(t, "POST", *u.Links.Cancel, nil)
		now := into[uploadView](t, r, 202)
		if now.Status != upload.Canceled || now.Version != u.Version+1 || now.Links.Cancel != nil || r.Header.Get("Location") != s.url+u.Links.Self || r.Header.Get("Retry-After") != "" {
			t.Errorf("got %s, %v", r.text, r.Header)
		}
	}
	s.complete(t, u.ID)
	wantCode(t, s.do(t, "POST", *u.Links.Cancel, nil), 409, upload.NotCancelable)
}

func TestDeleteAnUpload(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	wantCode(t, s.do(t, "DELETE", u.Links.Self, nil, as(t, "bob")), 404, upload.NotFound)
	for range 2 {
		r := s.do(t, "DELETE", u.Links.Self, nil)
		if now := into[uploadView](t, r, 202); now.Status != upload.Deleting || now.Version != u.Version+1 || r.Header.Get("Location") != s.url+u.Links.Self || r.Header.Get("Retry-After") == "" {
			t.Errorf("got %s, %v", r.text, r.Header)
		}
	}
	wantCode(t, s.do(t, "GET", "/v1/files/"+string(u.ID), nil), 404, upload.NotFound)
	s.change(t, u.ID, `status = 'deleted'`)
	if now := into[uploadView](t, s.do(t, "DELETE", u.Links.Self, nil), 202); now.Status != upload.Deleted {
		t.Errorf("once it is deleted it is %s", now.Status)
	}
	if now := into[uploadView](t, s.do(t, "GET", u.Links.Self, nil), 200); now.Status != upload.Deleted {
		t.Errorf("deleted, it is shown as %s", now.Status)
	}
	if got := walk(t, s, "/v1/uploads", "uploads"); len(got) != 0 {
		t.Errorf("the list shows %v", got)
	}
}

func TestAPersonCancelsOnThePage(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	form := `<form method="post" action="` + *u.Links.Cancel + `">`
	if page := s.do(t, "GET", pagePath(u.ID), nil, "Accept: text/html"); !strings.Contains(page.text, form) {
		t.Errorf("the page has no button: %s", page.text)
	}
	r := s.do(t, "POST", *u.Links.Cancel, strings.NewReader(""), "Content-Type: application/x-www-form-urlencoded", "Accept: text/html")
	if r.StatusCode != 303 || r.Header.Get("Location") != pagePath(u.ID) {
		t.Errorf("got %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	page := s.do(t, "GET", pagePath(u.ID), nil, "Accept: text/html")
	if strings.Contains(page.text, form) || strings.Contains(page.text, "refresh") || !strings.Contains(page.text, "It was canceled") {
		t.Errorf("the page of a canceled upload: %s", page.text)
	}
}
