package cloudinary_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// smallPages asks for fewer assets at once than is asked for, and counts the calls.
type smallPages struct {
	next  http.RoundTripper
	calls atomic.Int64
}

func (s *smallPages) RoundTrip(r *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	r = r.Clone(r.Context())
	r.URL.RawQuery = strings.Replace(r.URL.RawQuery, "max_results=500", "max_results=2", 1)
	return s.next.RoundTrip(r)
}

func TestListTellsWhatAnInstallationHas(t *testing.T) {
	_, opt := cloud(t)
	pages := &smallPages{next: http.DefaultTransport}
	opt.Transport = pages
	p := open(t, opt)
	const installation = "slipway-0123456789ab"
	want := map[string]bool{}
	put := func(rt upload.ResourceType, id, kind string) {
		content := map[upload.ResourceType]string{upload.Raw: "hello", upload.Image: "%PDF-", upload.Video: "ID3\x03\x00"}[rt]
		sent(t, opt, rt, id, kind, "x", []byte(content))
		want[fmt.Sprintf("%s %s", rt, id)] = true
	}
	for _, kind := range []string{"upload", "authenticated"} {
		for range 3 {
			put(upload.Raw, installation+"/"+string(upload.NewID())+".txt", kind)
		}
	}
	put(upload.Image, installation+"/"+string(upload.NewID()), "upload")
	put(upload.Video, installation+"/"+string(upload.NewID()), "upload")
	for _, foreign := range []string{"slipway-0123456789abc/" + string(upload.NewID()), "holidays", "slipway-ffffffffffff/" + string(upload.NewID())} {
		sent(t, opt, upload.Raw, foreign, "upload", "x", []byte("hello"))
	}

	err := p.List(within(t), installation, func(page []provider.Listed) error {
		for _, l := range page {
			name := fmt.Sprintf("%s %s", l.Asset.ResourceType, l.Asset.ID)
			if !want[name] {
				t.Errorf("%s is listed, or listed twice", name)
			}
			delete(want, name)
			id, ours := l.Upload(installation)
			if !ours || !strings.Contains(l.Asset.ID, string(id)) || l.Asset.Size != 5 || l.Asset.URL == "" || time.Since(l.MadeAt).Abs() > time.Minute {
				t.Errorf("listed is %+v, of upload %q (%t)", l, id, ours)
			}
			if _, ours := l.Upload("slipway-ffffffffffff"); ours {
				t.Errorf("%s is another installation's, too", name)
			}
		}
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("not listed: %v, %v", want, err)
	}
	enough := errors.New("enough")
	if err := p.List(within(t), installation, func([]provider.Listed) error { return enough }); err != enough { //nolint:errorlint // as it is
		t.Errorf("list = %v, want the error of page", err)
	}
}

func TestAbsentAsksForManyAtOnce(t *testing.T) {
	_, opt := cloud(t)
	pages := &smallPages{next: http.DefaultTransport}
	opt.Transport = pages
	p := open(t, opt)
	there := sent(t, opt, upload.Raw, "in a folder/père, fils.txt", "upload", "x", []byte("hello"))
	hidden := sent(t, opt, upload.Raw, "hidden", "authenticated", "x", []byte("hello"))
	assets := []upload.Asset{
		{ID: "in a folder/père, fils.txt", ResourceType: upload.Raw, URL: there.SecureURL},
		{ID: "hidden", ResourceType: upload.Raw, URL: hidden.SecureURL},
		{ID: "hidden", ResourceType: upload.Raw}, // it may be of any type
	}
	gone := []upload.Asset{{ID: "not, there", ResourceType: upload.Raw, URL: there.SecureURL}, {ID: "hidden", ResourceType: upload.Image}, {ID: "hidden", ResourceType: upload.Raw, URL: there.SecureURL}}
	for n := range 150 {
		gone = append(gone, upload.Asset{ID: fmt.Sprintf("gone-%d", n), ResourceType: upload.Raw, URL: there.SecureURL})
	}
	pages.calls.Store(0)
	absent, err := p.Absent(within(t), slices.Concat(assets, gone))
	if err != nil || !slices.Equal(absent, gone) {
		t.Errorf("absent are %v, %v", absent, err)
	}
	if n := pages.calls.Load(); n > 7 { // 152 raw, public; 1 and 1 image, public and not; 2 raw, not public; 2 with a comma
		t.Errorf("%d calls were made for %d assets", n, len(assets)+len(gone))
	}
}
