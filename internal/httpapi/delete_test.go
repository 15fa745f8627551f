package httpapi

import (
	"testing"

	"slipway/internal/upload"
)

func TestDeleteAFile(t *testing.T) {
	s := open(t, nil)
	u := s.put(t, "film.mp4")
	self := "/v1/files/" + string(u.ID)
	wantCode(t, s.do(t, "DELETE", self, nil), 404, upload.NotFound)
	s.complete(t, u.ID)
	wantCode(t, s.do(t, "DELETE", self, nil, as(t, "bob")), 404, upload.NotFound)

	for range 2 {
		r := s.do(t, "DELETE", self, nil)
		d := into[deletionView](t, r, 202)
		if d.ID != string(u.ID) || d.Status != upload.Deleting || *d.Links.Upload != u.Links.Self || r.Header.Get("Location") != s.url+u.Links.Self {
			t.Errorf("got %s to %s", r.text, r.Header.Get("Location"))
		}
	}
	if f := into[fileView](t, s.do(t, "GET", self, nil), 200); f.Deletion == nil || f.Deletion.AskedAt.IsZero() || f.Deletion.Error != nil {
		t.Errorf("its owner is shown %+v", f.Deletion)
	}
	wantCode(t, s.do(t, "GET", self, nil, as(t, "bob")), 404, upload.NotFound)
	wantCode(t, s.do(t, "GET", self+"/content", nil), 410, upload.Gone)
	if got := walk(t, s, "/v1/files", "files"); len(got) != 0 {
		t.Errorf("the list shows %v", got)
	}
	if now := into[uploadView](t, s.do(t, "GET", u.Links.Self, nil), 200); now.Status != upload.Deleting {
		t.Errorf("the upload is %s", now.Status)
	}
	s.change(t, u.ID, `status = 'deleted', asset = NULL`)
	if d := into[deletionView](t, s.do(t, "DELETE", self, nil), 202); d.Status != upload.Deleted {
		t.Errorf("once it is deleted: %+v", d)
	}
	wantCode(t, s.do(t, "GET", self+"/content", nil), 410, upload.Gone)
}

func TestDeleteAFileFromBefore(t *testing.T) {
	s := open(t, nil)
	s.exec(t, `
		INSERT INTO public.cloudinary_files (id, public_id, media_url, resource_type, user_id)
		VALUES (7, 'old', 'https://res.cloudinary.com/demo/image/upload/v1/old.png', 'image', 'alice'),
		       (8, 'slipway-0123456789ab/x', 'https://res.cloudinary.com/demo/image/upload/v1/x.png', 'image', 'alice')`)
	for _, path := range []string{"/v1/files/cloudinary-9", "/v1/files/uploadcare-7", "/v1/files/dropbox-7", "/v1/files/cloudinary-07"} {
		wantCode(t, s.do(t, "DELETE", path, nil), 404, upload.NotFound)
	}
	wantCode(t, s.do(t, "DELETE", "/v1/files/cloudinary-7", nil, as(t, "bob")), 404, upload.NotFound)
	wantCode(t, s.do(t, "DELETE", "/v1/files/cloudinary-8", nil), 409, upload.OtherInstallation)
	for range 2 {
		r := s.do(t, "DELETE", "/v1/files/cloudinary-7", nil)
		if want := `{"id":"cloudinary-7","status":"deleting","links":{"upload":null}}` + "\n"; r.StatusCode != 202 || r.text != want || r.Header.Get("Location") != "" {
			t.Errorf("got %d %s, want %s", r.StatusCode, r.text, want)
		}
	}
	wantCode(t, s.do(t, "GET", "/v1/files/cloudinary-7/content", nil), 404, upload.NotFound)
	if f := into[fileView](t, s.do(t, "GET", "/v1/files/cloudinary-7", nil), 200); f.AssetID != "old" || f.Deletion == nil || f.Deletion.Attempt != 0 || f.Deletion.Error != nil {
		t.Errorf("before it is tried its owner is shown %+v, %+v", f, f.Deletion)
	}
	s.exec(t, `UPDATE slipway.file_deletions SET attempt = 3, error_code = 'provider_account', error_message = 'Cloudinary refuses the account.'`)
	f := into[fileView](t, s.do(t, "GET", "/v1/files/cloudinary-7", nil), 200)
	if f.Deletion == nil || f.Deletion.Attempt != 3 || *f.Deletion.Error != (upload.Error{Code: upload.ProviderAccount, Message: "Cloudinary refuses the account.", Retryable: true}) {
		t.Errorf("after three attempts its owner is shown %+v", f.Deletion)
	}
	wantCode(t, s.do(t, "GET", "/v1/files/cloudinary-7", nil, as(t, "bob")), 404, upload.NotFound)
	if got := walk(t, s, "/v1/files", "files"); len(got) != 1 || got[0] != "cloudinary-8" {
		t.Errorf("the list shows %v", got)
	}
	s.exec(t, `DELETE FROM slipway.file_deletions`)
	s.exec(t, `DELETE FROM public.cloudinary_files WHERE id = 7`)
	wantCode(t, s.do(t, "GET", "/v1/files/cloudinary-7", nil), 404, upload.NotFound)
}
