package uploadcare_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

func TestListTellsWhatTheProjectKeepsAndWhoseItIs(t *testing.T) {
	_, opts := project(t)
	p := open(t, opts)
	const installation = "slipway-0123456789ab"
	want := map[string]string{} // by asset
	for n := range 5 {
		src := sourceOf([]byte("hello"))
		src.UploadID = upload.NewID()
		if n > 0 {
			src.Key = installation + "/" + string(src.UploadID)
		}
		want[deliver(t, p, src).ID] = src.Key
	}
	unstored := sourceOf([]byte("hello"))
	unstored.Key = installation + "/" + string(unstored.UploadID)
	pushed(t, p, unstored)

	got := map[string]string{}
	err := p.List(limited(t), installation, func(page []provider.Listed) error {
		for _, l := range page {
			got[l.Asset.ID] = l.Key
			if id, ours := l.Upload(installation); ours != (l.Key != "") || ours && !strings.HasSuffix(l.Key, string(id)) {
				t.Errorf("%+v is of upload %q (%t)", l, id, ours)
			}
			if l.Asset.Size != 5 || time.Since(l.MadeAt).Abs() > time.Minute {
				t.Errorf("listed is %+v", l)
			}
		}
		return nil
	})
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("listed are %v, %v, want %v", got, err, want)
	}
}

func TestListGoesThroughAllPages(t *testing.T) {
	_, opts := project(t)
	opts.Transport = pagesOf(3)
	listed := 0
	err := open(t, opts).List(limited(t), "", func(page []provider.Listed) error {
		listed += len(page)
		return nil
	})
	if err != nil || listed != 3 {
		t.Errorf("%d files are listed, %v; want one of each of three pages", listed, err)
	}
	enough := errors.New("enough")
	if err := open(t, opts).List(limited(t), "", func([]provider.Listed) error { return enough }); err != enough { //nolint:errorlint // as it is
		t.Errorf("list = %v, want the error of page", err)
	}
}

// pagesOf answers a listing with so many pages of one file each.
type pagesOf int

func (n pagesOf) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	page, _ := strconv.Atoi(r.URL.Query().Get("offset"))
	next := "null"
	if page+1 < int(n) {
		next = fmt.Sprintf(`"https://api.uploadcare.com/files/?limit=1&offset=%d"`, page+1)
	}
	return respond(http.StatusOK, nil, fmt.Sprintf(`{"next":%s,"results":[{"uuid":"0193f1c2-0000-4000-8000-00000000000%d",
		"datetime_uploaded":"2026-01-01T00:00:00.000000Z","size":1,"is_ready":true}]}`, next, page)), nil
}

// Whose a file is, its owner's metadata cannot say, and takes no place from it that it needs.
func TestNobodyElseSaysWhoseAFileIs(t *testing.T) {
	sim, opts := project(t)
	p := open(t, opts)
	for _, entries := range []int{0, 47, 48, 49} {
		src := sourceOf([]byte("hello"))
		src.UploadID = upload.NewID()
		src.Key = "slipway-0123456789ab/" + string(src.UploadID)
		src.Metadata = map[string]string{"slipway_key": "slipway-ffffffffffff/" + string(upload.NewID())}
		for n := range entries {
			src.Metadata[fmt.Sprintf("key-%d", n)] = "value"
		}
		a := deliver(t, p, src)
		files, err := sim.Inventory()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.UUID != a.ID {
				continue
			}
			if f.Metadata["slipway_key"] != src.Key {
				t.Errorf("beside %d entries it says that it is of %q", entries, f.Metadata["slipway_key"])
			}
			if len(f.Metadata) < entries+1 {
				t.Errorf("%d of %d entries are left", len(f.Metadata), entries)
			}
		}
	}
}

func TestAbsentFiles(t *testing.T) {
	_, opts := project(t)
	p := open(t, opts)
	kept, deleted := deliver(t, p, sourceOf([]byte("kept"))), deliver(t, p, sourceOf([]byte("deleted")))
	if err := p.Delete(limited(t), deleted); err != nil {
		t.Fatal(err)
	}
	never := upload.Asset{ID: "0193f1c2-0000-4000-8000-000000000001"}
	absent, err := p.Absent(limited(t), []upload.Asset{kept, deleted, never})
	if err != nil || len(absent) != 2 || absent[0] != deleted || absent[1] != never {
		t.Errorf("absent are %v, %v", absent, err)
	}
}
