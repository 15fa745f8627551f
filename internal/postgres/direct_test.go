package postgres_test

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// direct makes a change of an upload that is a direct one.
func direct(change func(*testing.T, pgx.Tx, upload.Upload) error) func(*testing.T, bench, upload.Upload) error {
	return func(t *testing.T, b bench, u upload.Upload) error {
		b.exec(t, `TRUNCATE uploadcare_files`)
		b.exec(t, `INSERT INTO slipway.direct_uploads (upload_id, user_id, provider, asset_id) VALUES ($1, $2, $3, $4)`, u.ID, u.UserID, u.Provider, assetOf(u).ID)
		b.exec(t, `UPDATE slipway.uploads SET expires_at = now() - interval '1 minute'`)
		return pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error { return change(t, tx, u) })
	}
}

func claimOf(u upload.Upload) postgres.Claim {
	return postgres.Claim{UploadID: u.ID, AssetID: assetOf(u).ID}
}

func assetOf(u upload.Upload) upload.Asset {
	return upload.Asset{ID: "asset of " + string(u.ID), URL: "https://cdn.test/", Size: 5}
}

// claimed is a user's upload of an asset that is being verified.
func (b bench) claimed(t *testing.T, user, assetID string) upload.Upload {
	t.Helper()
	u := upload.Upload{ID: upload.NewID(), UserID: user, Provider: "cloudinary", ResourceType: upload.Image, FileName: upload.Untitled, MaxAttempts: 3}
	err := postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: user}, func(tx pgx.Tx) (err error) {
		if u.JobID, err = postgres.InsertVerify(t.Context(), tx, b.queue, u); err != nil {
			return err
		}
		return postgres.InsertClaim(t.Context(), tx, u, postgres.Claim{AssetID: assetID}, time.Hour)
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestASignatureIsGoodForAnHour(t *testing.T) {
	b := newBench(t)
	b.tx(t, func(tx pgx.Tx) error { return postgres.HandOut(t.Context(), tx, "ann", "cloudinary") })
	now := time.Now()
	tests := map[string]struct {
		user, provider string
		made           time.Time
		want           bool
	}{
		"now":                              {"ann", "cloudinary", now, true},
		"at any time":                      {"ann", "cloudinary", time.Time{}, true},
		"just before, by a clock that is":  {"ann", "cloudinary", now.Add(-50 * time.Second), true},
		"minutes before":                   {"ann", "cloudinary", now.Add(-3 * time.Minute), false},
		"at the end of the hour":           {"ann", "cloudinary", now.Add(time.Hour), true},
		"long after the hour":              {"ann", "cloudinary", now.Add(time.Hour + 4*time.Minute), false},
		"to somebody else":                 {"bob", "cloudinary", now, false},
		"to somebody else at any time":     {"bob", "cloudinary", time.Time{}, false},
		"for another provider":             {"ann", "uploadcare", now, false},
		"for another provider at any time": {"ann", "uploadcare", time.Time{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := postgres.SignedFor(t.Context(), b.Pool, tt.user, tt.provider, tt.made); got != tt.want || err != nil {
				t.Errorf("got %t, %v", got, err)
			}
		})
	}
	b.exec(t, `UPDATE slipway.direct_handouts SET minute = minute - interval '23 hours'`)
	for _, left := range []int{1, 0} {
		if err := postgres.PruneHandouts(t.Context(), b.Pool); err != nil {
			t.Fatal(err)
		}
		if n := one[int](t, b.Pool, `SELECT count(*) FROM slipway.direct_handouts`); n != left {
			t.Errorf("%d signatures are remembered, want %d", n, left)
		}
		b.exec(t, `UPDATE slipway.direct_handouts SET minute = minute - interval '2 hours'`)
	}
}

func TestAnAssetIsOneUploadsAlone(t *testing.T) {
	b := newBench(t)
	asset := upload.Asset{ID: "a", URL: "https://cdn.test/a", ResourceType: upload.Image, Size: 5}
	complete := func(u upload.Upload) error {
		return pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error { return postgres.CompleteDirect(t.Context(), tx, u, asset, 0) })
	}
	first, second := b.claimed(t, "ann", "a"), b.claimed(t, "bob", "a")
	b.tx(t, func(tx pgx.Tx) error { return postgres.OwnAsset(t.Context(), tx, first, "a") })
	if err := complete(second); !errors.Is(err, postgres.ErrTaken) {
		t.Errorf("what somebody else is about to keep: %v", err)
	}
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.FailDirect(t.Context(), tx, first, upload.Error{Code: upload.AssetNotFound})
	})
	if err := complete(second); err != nil {
		t.Errorf("what somebody else has given up: %v", err)
	}
	if err := complete(b.claimed(t, "ann", "a")); !errors.Is(err, postgres.ErrTaken) {
		t.Errorf("what somebody else has: %v", err)
	}
	if rows := one[string](t, b.Pool, `SELECT string_agg(user_id, ',') FROM cloudinary_files WHERE public_id = 'a'`); rows != "bob" {
		t.Errorf("the guide's row is %s's", rows)
	}
}

func TestQuestionsThatNobodyAsksGetAJob(t *testing.T) {
	tests := map[string]struct {
		change string // of the one upload there is and its job
		want   int
	}{
		"one that waits is left alone":              {`SELECT 1`, 0},
		"one that is being asked is left alone":     {`UPDATE slipway.river_job SET state = 'running', attempted_at = now()`, 0},
		"one whose worker is gone":                  {`UPDATE slipway.river_job SET state = 'running', attempted_at = now() - interval '2 minutes'`, 1},
		"one whose job is lost":                     {`DELETE FROM slipway.river_job`, 1},
		"one whose job was discarded":               {`UPDATE slipway.river_job SET state = 'discarded', finalized_at = now()`, 1},
		"an asset that is yet to be described":      {`WITH j AS (DELETE FROM slipway.river_job), d AS (UPDATE slipway.direct_uploads SET details_due = true) UPDATE slipway.uploads SET status = 'completed'`, 1},
		"one that was described is left alone":      {`WITH j AS (DELETE FROM slipway.river_job) UPDATE slipway.uploads SET status = 'completed'`, 0},
		"a reservation that has run out":            {`WITH j AS (DELETE FROM slipway.river_job) UPDATE slipway.uploads SET status = 'reserved', expires_at = now() - interval '1 second'`, 1},
		"a reservation with time left":              {`WITH j AS (DELETE FROM slipway.river_job) UPDATE slipway.uploads SET status = 'reserved', expires_at = now() + interval '1 hour'`, 0},
		"one that is being deleted is left in rest": {`WITH j AS (DELETE FROM slipway.river_job), d AS (UPDATE slipway.direct_uploads SET details_due = true) UPDATE slipway.uploads SET status = 'deleting'`, 0},
	}
	b := newBench(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b.exec(t, `TRUNCATE slipway.uploads, slipway.river_job CASCADE`)
			u := b.claimed(t, "ann", "a")
			b.exec(t, tt.change)
			for _, want := range []int{tt.want, 0} { // the second time it has one
				if n, err := postgres.AdoptDirect(t.Context(), b.Pool, b.queue, time.Minute); n != want || err != nil {
					t.Errorf("%d got a job, %v, want %d", n, err, want)
				}
			}
			if now := b.read(t, u.ID); (now.JobID != u.JobID) != (tt.want == 1) {
				t.Errorf("its job is %d, was %d", now.JobID, u.JobID)
			}
		})
	}
}
