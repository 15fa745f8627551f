package postgres_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// asUser reads for user_123 as a request does.
func asUser[T any](t *testing.T, b bench, read func(tx pgx.Tx) (T, error)) (v T, err error) {
	t.Helper()
	err = postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: "user_123"}, func(tx pgx.Tx) error {
		v, err = read(tx)
		return err
	})
	return v, err
}

func TestListFilesPageByPage(t *testing.T) {
	b := newBench(t)
	stamps := []string{"2024-01-01", "2024-01-02", "2024-01-02 00:00:00.000001", "2025-01-01"}
	for n := range 12 {
		for _, user := range []string{"user_123", "somebody else"} {
			var at *string // every third row has no time
			if n%3 != 0 {
				at = &stamps[n%len(stamps)]
			}
			b.exec(t, `INSERT INTO public.uploadcare_files (file_id, file_url, user_id, upload_timestamp, content_type) VALUES ($1, 'u', $2, $3::text::timestamptz, 'video/mp4')`, fmt.Sprint(user, n), user, at)
			b.exec(t, `INSERT INTO public.cloudinary_files (public_id, media_url, resource_type, user_id, upload_timestamp) VALUES ($1, 'u', $2, $3, $4::text::timestamptz)`,
				fmt.Sprint(user, n), []string{"image", "video"}[n%2], user, at)
		}
	}
	filters := map[string]struct {
		filter postgres.FileFilter
		count  int
	}{
		"of both providers": {postgres.FileFilter{}, 24},
		"of Uploadcare":     {postgres.FileFilter{Provider: "uploadcare"}, 12},
		"of Cloudinary":     {postgres.FileFilter{Provider: "cloudinary"}, 12},
		"of one type":       {postgres.FileFilter{ResourceType: upload.Video}, 18},
		"of nobody":         {postgres.FileFilter{Provider: "dropbox"}, 0},
	}
	for name, tt := range filters {
		list := func(f postgres.FileFilter) []postgres.File {
			t.Helper()
			files, err := asUser(t, b, func(tx pgx.Tx) ([]postgres.File, error) { return postgres.ListFiles(t.Context(), tx, "user_123", f) })
			if err != nil {
				t.Fatal(err)
			}
			return files
		}
		whole := tt.filter
		whole.Limit = 100
		want := list(whole)
		if len(want) != tt.count {
			t.Errorf("%s: %d files, want %d", name, len(want), tt.count)
		}
		if !slices.IsSortedFunc(want, newest) {
			t.Errorf("%s: not newest first", name)
		}
		for _, limit := range []int{1, 2, 5, 7} {
			t.Run(fmt.Sprintf("%s by %d", name, limit), func(t *testing.T) {
				page := tt.filter
				page.Limit = limit
				var got []postgres.File
				for {
					files := list(page)
					got = append(got, files...)
					if len(files) < limit {
						break
					}
					last := files[len(files)-1]
					page.After = &postgres.FileKey{UploadedAt: last.UploadedAt, Provider: last.Provider, Row: last.Row}
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%d files page by page, %d at once, or in another order", len(got), len(want))
				}
			})
		}
	}
}

// newest orders files as a list does: those without a time last.
func newest(a, b postgres.File) int {
	at := func(f postgres.File) time.Time {
		if f.UploadedAt == nil {
			return time.Time{}
		}
		return *f.UploadedAt
	}
	return at(b).Compare(at(a))
}

func TestGetFile(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"uploadcare", "cloudinary"} {
		u := staged("user_123")
		u.Provider = name
		u = b.taken(t, u)
		delivers(t, b, u)
		foreign := staged("somebody else")
		foreign.Provider = name
		foreign = b.taken(t, foreign)
		delivers(t, b, foreign)
		a := asset(u)

		f, err := asUser(t, b, func(tx pgx.Tx) (postgres.File, error) { return postgres.GetFile(t.Context(), tx, "user_123", u.ID) })
		if err != nil || f.Provider != name || f.UploadID == nil || *f.UploadID != u.ID || f.AssetID != a.ID || f.URL != a.URL ||
			f.ResourceType != upload.Video || *f.Size != u.Size || *f.FileName != u.FileName || f.UploadedAt == nil {
			t.Errorf("file = %+v, %v", f, err)
		}
		same, err := asUser(t, b, func(tx pgx.Tx) (postgres.File, error) {
			return postgres.GetFileRow(t.Context(), tx, "user_123", name, f.Row)
		})
		if err != nil || !reflect.DeepEqual(same, f) {
			t.Errorf("by its row it is %+v, %v", same, err)
		}
		theirs := one[int64](t, b.Pool, `SELECT id FROM public.`+name+`_files WHERE user_id = 'somebody else'`)
		nothing := map[string]func(db postgres.DB) (postgres.File, error){
			"another's upload": func(db postgres.DB) (postgres.File, error) {
				return postgres.GetFile(t.Context(), db, "user_123", foreign.ID)
			},
			"another's row": func(db postgres.DB) (postgres.File, error) {
				return postgres.GetFileRow(t.Context(), db, "user_123", name, theirs)
			},
			"no upload": func(db postgres.DB) (postgres.File, error) {
				return postgres.GetFile(t.Context(), db, "user_123", upload.NewID())
			},
			"no row": func(db postgres.DB) (postgres.File, error) {
				return postgres.GetFileRow(t.Context(), db, "user_123", name, 99)
			},
			"a row beyond an id": func(db postgres.DB) (postgres.File, error) {
				return postgres.GetFileRow(t.Context(), db, "user_123", name, math.MaxInt64)
			},
			"no provider": func(db postgres.DB) (postgres.File, error) {
				return postgres.GetFileRow(t.Context(), db, "user_123", "dropbox", f.Row)
			},
		}
		for what, get := range nothing {
			if got, err := get(b.Pool); !errors.Is(err, postgres.ErrNoUpload) { // even for the owner of the database
				t.Errorf("%s: %+v, %v", what, got, err)
			}
		}
	}
}
