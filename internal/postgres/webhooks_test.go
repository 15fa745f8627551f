package postgres_test

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestNotificationsAreNobodys(t *testing.T) {
	b := newBench(t)
	take := func(user string) error {
		return postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) error {
			return postgres.TakeWebhook(t.Context(), tx, b.queue, "cloudinary", sha256.Sum256([]byte(user)), []upload.HintArgs{{Provider: "cloudinary", AssetID: "a", News: upload.Removed}})
		})
	}
	if err := take("ann"); err == nil {
		t.Error("a user has taken one")
	}
	for range 2 {
		if err := take(""); err != nil {
			t.Error(err)
		}
	}
	if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.river_job`); n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
}

func TestHintsFindTheUploadsOfAnAsset(t *testing.T) {
	b := newBench(t)
	ann, bob := b.claimed(t, "ann", "a"), b.claimed(t, "bob", "a")
	reserved := upload.Upload{ID: upload.NewID(), UserID: "ann", Provider: "uploadcare", FileName: upload.Untitled, MaxAttempts: 3}
	b.tx(t, func(tx pgx.Tx) error { return postgres.InsertReserved(t.Context(), tx, reserved, "") })
	const file = "21975c81-7f57-4c7a-aef9-acfe28779f78"
	tests := map[string]struct {
		hint upload.HintArgs
		want []upload.ID
	}{
		"everybody's who claims it":     {upload.HintArgs{Provider: "cloudinary", AssetID: "a"}, []upload.ID{ann.ID, bob.ID}},
		"of another asset none":         {upload.HintArgs{Provider: "cloudinary", AssetID: "b"}, nil},
		"of another provider none":      {upload.HintArgs{Provider: "uploadcare", AssetID: "a"}, nil},
		"the one that the file names":   {upload.HintArgs{Provider: "uploadcare", AssetID: file, Sent: reserved.ID}, []upload.ID{reserved.ID}},
		"none that names another's":     {upload.HintArgs{Provider: "cloudinary", AssetID: "b", Sent: reserved.ID}, nil},
		"none that the file just names": {upload.HintArgs{Provider: "uploadcare", AssetID: file, Sent: upload.NewID()}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			found, err := postgres.HintedUploads(t.Context(), b.Pool, tt.hint)
			if err != nil || len(found) != len(tt.want) {
				t.Fatalf("found %+v, %v, want %v", found, err, tt.want)
			}
			for i, u := range found {
				if u.ID != tt.want[i] {
					t.Errorf("found %s, want %v", u.ID, tt.want)
				}
			}
		})
	}
}

func TestAHintWakesOnlyWhoWaits(t *testing.T) {
	b := newBench(t)
	u := b.claimed(t, "ann", "a")
	again := func() error {
		return pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error { return postgres.AskAgain(t.Context(), tx, b.queue, u, "a") })
	}
	u.Status = upload.Verifying
	if err := again(); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("one that is being asked about: %v", err)
	}
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.DelayDirect(t.Context(), tx, u, upload.Error{Code: upload.ProviderThrottled}, time.Hour)
	})
	if err := again(); err != nil {
		t.Errorf("one that waits for an hour: %v", err)
	}
	if got := b.read(t, u.ID); got.JobID == u.JobID || got.Status != upload.Verifying {
		t.Errorf("it has the job %d as before, and is %s", got.JobID, got.Status)
	}
	if err := again(); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("one that was woken before: %v", err)
	}
}

func TestWhatAProviderSaysOfAnAssetIsWrittenUnlessNewerIs(t *testing.T) {
	b := newBench(t)
	u := b.claimed(t, "ann", "a")
	asset := upload.Asset{ID: "a", URL: "https://cdn.test/a", ResourceType: upload.Image, Size: 5}
	b.tx(t, func(tx pgx.Tx) error { return postgres.CompleteDirect(t.Context(), tx, u, asset, 0) })
	first := b.read(t, u.ID)
	refresh := func(u upload.Upload, a upload.Asset) error {
		return pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error { return postgres.RefreshAsset(t.Context(), tx, u, a) })
	}
	flagged, larger := first, asset
	flagged.Tags, larger.Size = []string{"sea"}, 7
	flagged.Error = &upload.Error{Code: upload.Infected, Message: "Uploadcare has found a virus in the file: X.", FixableBy: upload.ByYou}
	if err := refresh(flagged, larger); err != nil {
		t.Fatal(err)
	}
	got := b.read(t, u.ID)
	if got.Status != upload.Completed || got.Error == nil || *got.Error != *flagged.Error || got.Size != 7 || *got.Asset != larger || len(got.Tags) != 1 || got.Version == first.Version {
		t.Errorf("it is %+v with %+v", got, got.Asset)
	}
	if said := one[string](t, b.Pool, `SELECT data ->> 'code' FROM slipway.upload_events ORDER BY seq DESC LIMIT 1`); said != "infected" {
		t.Errorf("the event says %s", said)
	}
	if size := one[int](t, b.Pool, `SELECT size FROM cloudinary_files WHERE public_id = 'a' AND tags = '{sea}'`); size != 7 {
		t.Errorf("the guide's row has %d bytes", size)
	}
	if err := refresh(first, asset); !errors.Is(err, postgres.ErrNoUpload) {
		t.Errorf("an older answer: %v", err)
	}
	clean := got
	clean.Error = nil
	if err := refresh(clean, larger); err != nil || b.read(t, u.ID).Error != nil {
		t.Errorf("a file that is clean after all: %v, %v", err, b.read(t, u.ID).Error)
	}
}
