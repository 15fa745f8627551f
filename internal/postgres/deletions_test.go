package postgres_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/guides"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// deletes asks, as a user's request does, for the end of an upload's file, or of a row of a guide table.
func (b bench) deletes(t *testing.T, user string, id upload.ID) error {
	t.Helper()
	return postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
		_, err := postgres.DeleteFile(t.Context(), tx, b.queue, user, id)
		return err
	})
}

func (b bench) deletesRow(t *testing.T, user, provider string, row int64) error {
	t.Helper()
	return postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
		return postgres.DeleteFileRow(t.Context(), tx, b.queue, user, provider, row)
	})
}

// deletion is the only one there is, as its job reads it.
func (b bench) deletion(t *testing.T) postgres.Deletion {
	t.Helper()
	id := one[upload.ID](t, b.Pool, `SELECT id FROM slipway.file_deletions`)
	d, err := postgres.ReadDeletion(t.Context(), b.Pool, id, one[int64](t, b.Pool, `SELECT job_id FROM slipway.file_deletions`))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (b bench) finish(t *testing.T, d postgres.Deletion) {
	t.Helper()
	b.tx(t, func(tx pgx.Tx) error { return postgres.FinishDeletion(t.Context(), tx, d) })
}

// shown are the assets in user_123's list.
func (b bench) shown(t *testing.T) []string {
	t.Helper()
	files, err := asUser(t, b, func(tx pgx.Tx) ([]postgres.File, error) {
		return postgres.ListFiles(t.Context(), tx, "user_123", postgres.FileFilter{Limit: 100})
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, f := range files {
		ids = append(ids, f.AssetID)
	}
	slices.Sort(ids)
	return ids
}

// completed is a delivered upload of user_123's.
func (b bench) completed(t *testing.T, provider string) upload.Upload {
	t.Helper()
	u := staged("user_123")
	u.Provider = provider
	u = b.taken(t, u)
	delivers(t, b, u)
	return b.read(t, u.ID)
}

func (b bench) before(t *testing.T, publicID, user string) (row int64) {
	t.Helper()
	b.exec(t, guides.CloudinaryInsert, publicID, "https://res.cloudinary.com/demo/image/upload/v1/"+publicID, "image", user)
	return one[int64](t, b.Pool, `SELECT id FROM public.cloudinary_files WHERE public_id = $1`, publicID)
}

func TestDeleteFile(t *testing.T) {
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		t.Run(provider, func(t *testing.T) {
			b := newBench(t)
			u, other := b.completed(t, provider), b.completed(t, provider)
			for range 2 {
				if err := b.deletes(t, "user_123", u.ID); err != nil {
					t.Fatal(err)
				}
			}
			if got := b.read(t, u.ID); got.Status != upload.Deleting || got.Version != u.Version+1 {
				t.Errorf("status %s, version %d; want deleting and one change", got.Status, got.Version-u.Version)
			}
			if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job WHERE kind = 'delete_asset' AND queue = $1`, upload.DeleteQueue(provider)); n != 1 {
				t.Errorf("%d jobs", n)
			}
			if got, want := b.shown(t), []string{asset(other).ID}; !slices.Equal(got, want) {
				t.Errorf("while it is being deleted the list shows %v, want %v", got, want)
			}
			d := b.deletion(t)
			if d.Asset.ID != u.Asset.ID || d.Asset.URL != u.Asset.URL || d.Spared {
				t.Errorf("the job is to delete %+v", d)
			}

			why := upload.Error{Code: upload.ProviderUnavailable, Message: "It answered 503.", FixableBy: upload.ByProvider, Retryable: true}
			b.tx(t, func(tx pgx.Tx) error { return postgres.DelayDeletion(t.Context(), tx, d, why, time.Minute) })
			if got := b.read(t, u.ID); got.Status != upload.Deleting || got.Error == nil || got.Error.Code != why.Code || got.NextAttemptAt == nil {
				t.Errorf("delayed it is %+v", got)
			}
			b.finish(t, d)
			if got := b.read(t, u.ID); got.Status != upload.Deleted || got.Asset != nil || got.Error != nil || got.Unstaged == nil {
				t.Errorf("deleted it is %+v", got)
			}
			if n := one[int](t, b.Pool, `SELECT count(*) FROM public.`+provider+`_files`); n != 1 {
				t.Errorf("%d guide rows, want the other upload's", n)
			}
			statuses := one[[]string](t, b.Pool, `SELECT array_agg(type || ' ' || status ORDER BY seq) FROM slipway.upload_events WHERE upload_id = $1`, u.ID)
			if want := []string{"status deleting", "attempt deleting", "status deleted"}; !slices.Equal(statuses[len(statuses)-3:], want) {
				t.Errorf("the events end with %v, want %v", statuses, want)
			}
			after := b.dump(t, u.ID)
			if err := pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error { return postgres.FinishDeletion(t.Context(), tx, d) }); !errors.Is(err, postgres.ErrNoUpload) {
				t.Errorf("finished twice: %v", err)
			}
			if err := b.deletes(t, "user_123", u.ID); err != nil || b.dump(t, u.ID) != after {
				t.Errorf("deleted again: %v, or something has changed", err)
			}
		})
	}
}

func TestDeleteFileRow(t *testing.T) {
	b := newBench(t)
	row := b.before(t, "old", "user_123")
	b.before(t, "kept", "user_123")
	for range 2 {
		if err := b.deletesRow(t, "user_123", "cloudinary", row); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.shown(t); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("while it is being deleted the list shows %v", got)
	}
	d := b.deletion(t)
	if d.Asset.ID != "old" || d.Asset.ResourceType != upload.Image || d.Asset.URL == "" || d.Upload != nil {
		t.Errorf("the job is to delete %+v", d)
	}
	b.finish(t, d)
	if n := one[int](t, b.Pool, `SELECT count(*) FROM public.cloudinary_files WHERE public_id = 'old'`); n != 0 {
		t.Error("the guide's row is still there")
	}
	if err := b.deletesRow(t, "user_123", "cloudinary", row); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("once it is gone: %v", err)
	}

	u := b.completed(t, "cloudinary")
	if err := b.deletesRow(t, "user_123", "cloudinary", one[int64](t, b.Pool, `SELECT id FROM public.cloudinary_files WHERE upload_id = $1`, u.ID)); err != nil {
		t.Fatal(err)
	}
	if got := b.read(t, u.ID); got.Status != upload.Deleting {
		t.Errorf("by its row, an upload becomes %s", got.Status)
	}
}

func TestWhatIsNotDeleted(t *testing.T) {
	b := newBench(t)
	foreign := b.before(t, "foreign", "somebody else")
	theirs := staged("somebody else")
	theirs = b.taken(t, theirs)
	delivers(t, b, theirs)
	waiting := b.accepted(t, staged("user_123"))
	originals := b.before(t, "slipway-0123456789ab/0193f1c2-0000-7000-8000-000000000000", "user_123")
	b.exec(t, guides.CloudinaryInsert, "odd", "https://res.cloudinary.com/demo/x/odd", "auto", "user_123")
	odd := one[int64](t, b.Pool, `SELECT id FROM public.cloudinary_files WHERE public_id = 'odd'`)
	ours := b.before(t, one[string](t, b.Pool, `SELECT id FROM slipway.installation`)+"/x", "user_123")

	var e *upload.Error
	for what, err := range map[string]error{
		"another's row":    b.deletesRow(t, "user_123", "cloudinary", foreign),
		"another's upload": b.deletes(t, "user_123", theirs.ID),
		"no row":           b.deletesRow(t, "user_123", "uploadcare", 99),
		"no provider":      b.deletesRow(t, "user_123", "dropbox", 1),
		"no upload":        b.deletes(t, "user_123", upload.NewID()),
		"one on its way":   b.deletes(t, "user_123", waiting.ID),
	} {
		if !errors.Is(err, postgres.ErrNoUpload) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := b.deletesRow(t, "user_123", "cloudinary", originals); !errors.As(err, &e) || e.Code != upload.OtherInstallation {
		t.Errorf("another installation's asset: %v", err)
	}
	if err := b.deletesRow(t, "user_123", "cloudinary", odd); !errors.As(err, &e) || e.Code != upload.UnknownResourceType {
		t.Errorf("an asset of no type: %v", err)
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.file_deletions`); n != 0 {
		t.Errorf("%d deletions", n)
	}
	if err := b.deletesRow(t, "user_123", "cloudinary", ours); err != nil {
		t.Errorf("our own: %v", err)
	}
}

func TestACopyDeletesNothingOfTheOriginals(t *testing.T) {
	b := newBench(t)
	asked := b.before(t, "asked for before", "user_123")
	if err := b.deletesRow(t, "user_123", "cloudinary", asked); err != nil {
		t.Fatal(err)
	}
	u, row := b.completed(t, "uploadcare"), b.before(t, "old", "user_123")
	if err := postgres.Rehome(t.Context(), b.Pool, "postgres://branch.example/copy", true); err != nil {
		t.Fatal(err)
	}
	if d := b.deletion(t); !d.Spared {
		t.Error("what was to be deleted at the original is deleted by the copy")
	}
	var e *upload.Error
	if err := b.deletes(t, "user_123", u.ID); !errors.As(err, &e) || e.Code != upload.OtherInstallation {
		t.Errorf("an upload of the original's: %v", err)
	}
	if err := b.deletesRow(t, "user_123", "cloudinary", row); !errors.As(err, &e) || e.Code != upload.OtherInstallation {
		t.Errorf("a file of the original's: %v", err)
	}
	if err := b.deletes(t, "user_123", b.completed(t, "uploadcare").ID); err != nil {
		t.Errorf("the copy's own: %v", err)
	}
}

func TestTheGuidesAppActsMeanwhile(t *testing.T) {
	tests := map[string]struct {
		meanwhile string
		spared    bool
		left      int
	}{
		"it removes the row":                            {`DELETE FROM cloudinary_files WHERE public_id = 'old'`, false, 0},
		"it saves the asset anew for the same user":     {`DELETE FROM cloudinary_files; INSERT INTO cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ('old', 'u', 'image', 'user_123')`, true, 1},
		"it saves the asset anew for somebody else":     {`DELETE FROM cloudinary_files; INSERT INTO cloudinary_files (public_id, media_url, resource_type, user_id) VALUES ('old', 'u', 'image', 'bob')`, true, 1},
		"an upload that claims the asset takes the row": {`UPDATE cloudinary_files SET upload_id = gen_random_uuid()`, true, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if err := b.deletesRow(t, "user_123", "cloudinary", b.before(t, "old", "user_123")); err != nil {
				t.Fatal(err)
			}
			b.exec(t, tt.meanwhile)
			d := b.deletion(t)
			b.finish(t, d)
			if left := one[int](t, b.Pool, `SELECT count(*) FROM cloudinary_files`); d.Spared != tt.spared || left != tt.left {
				t.Errorf("the asset is spared: %t, %d rows left; want %t, %d", d.Spared, left, tt.spared, tt.left)
			}
		})
	}
}

func TestAnUploadWhoseRowIsGoneIsDeleted(t *testing.T) {
	b := newBench(t)
	u := b.completed(t, "cloudinary")
	b.exec(t, `DELETE FROM cloudinary_files`)
	if err := b.deletes(t, "user_123", u.ID); err != nil {
		t.Fatal(err)
	}
	d := b.deletion(t)
	b.finish(t, d)
	if got := b.read(t, u.ID); got.Status != upload.Deleted || d.Spared || d.Asset.ID != u.Asset.ID {
		t.Errorf("it is %s, of %+v", got.Status, d)
	}
}

func TestAdoptDeletions(t *testing.T) {
	b := newBench(t)
	if err := b.deletesRow(t, "user_123", "cloudinary", b.before(t, "old", "user_123")); err != nil {
		t.Fatal(err)
	}
	first := b.deletion(t)
	adopt := func(want int) {
		t.Helper()
		if n, err := postgres.AdoptDeletions(t.Context(), b.Pool, b.queue, time.Minute); n != want || err != nil {
			t.Fatalf("%d adopted, %v, want %d", n, err, want)
		}
	}
	adopt(0)
	b.fetch(t, first.JobID, time.Second)
	adopt(0)
	b.fetch(t, first.JobID, 2*time.Minute)
	adopt(1)
	if second := b.deletion(t); second.JobID == first.JobID {
		t.Error("it has its old job")
	}
	if _, err := postgres.ReadDeletion(t.Context(), b.Pool, first.ID, first.JobID); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("the old job may still work: %v", err)
	}
}
