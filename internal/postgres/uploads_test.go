package postgres_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestUploadIsReadAsItWasWritten(t *testing.T) {
	tests := map[string]func(*upload.Upload){
		"with nothing said about it": func(u *upload.Upload) { u.ResourceType = "" },
		"with tags and metadata": func(u *upload.Upload) {
			u.Tags, u.Metadata = []string{"trip", "ü"}, map[string]string{"album": "7", `a"b`: "{}"}
		},
		"with an odd name":     func(u *upload.Upload) { u.FileName = `père & fils (1) slipway. @user $1 public.mp4` },
		"with the highest sum": func(u *upload.Upload) { u.CRC32C, u.Size = 0xffffffff, 10<<30 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			want := staged("user_123")
			change(&want)
			want = b.accepted(t, want)
			got, err := asUser(t, b, func(tx pgx.Tx) (upload.Upload, error) {
				return postgres.GetUpload(t.Context(), tx, "user_123", want.ID)
			})
			if err != nil {
				t.Fatal(err)
			}
			if time.Since(got.CreatedAt) > time.Minute || got.StagedAt == nil || got.DeliverBy == nil {
				t.Errorf("created at %s, staged at %v, to be delivered by %v", got.CreatedAt, got.StagedAt, got.DeliverBy)
			}
			want.Status, want.Received, want.Progress, want.Version = upload.Queued, want.Size, 0.5, 1
			want.CreatedAt, want.StagedAt, want.DeliverBy = got.CreatedAt, got.StagedAt, got.DeliverBy
			if want.Metadata == nil {
				want.Metadata, want.Tags = map[string]string{}, []string{}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("upload = %+v, want %+v", got, want)
			}
		})
	}
}

func TestGetUploadOfNobody(t *testing.T) {
	b := newBench(t)
	foreign, joined := b.accepted(t, staged("somebody else")), b.accepted(t, staged("user_123"))
	b.exec(t, `UPDATE slipway.uploads SET status = 'joined' WHERE id = $1`, joined.ID)
	for what, id := range map[string]upload.ID{"unknown": upload.NewID(), "foreign": foreign.ID, "joined": joined.ID} {
		if _, err := postgres.GetUpload(t.Context(), b.Pool, "user_123", id); !errors.Is(err, postgres.ErrNoUpload) {
			t.Errorf("%s: %v, want ErrNoUpload", what, err)
		}
	}
}

func TestRequeueMakesEveryBudgetFresh(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	b.exec(t, `UPDATE slipway.uploads SET attempt = 3, takeovers = 5, sessions_lost = 1, pushed_bytes = 50, pushed_high = 100`)
	b.tx(t, func(tx pgx.Tx) error {
		return postgres.Fail(t.Context(), tx, u, upload.Error{Code: upload.Internal, Message: "x"}, time.Hour)
	})
	again, err := asUser(t, b, func(tx pgx.Tx) (upload.Upload, error) {
		job, err := postgres.InsertPush(t.Context(), tx, b.queue, u)
		if err != nil {
			return upload.Upload{}, err
		}
		return postgres.Requeue(t.Context(), tx, "user_123", u.ID, job, time.Hour)
	})
	if err != nil || again.Status != upload.Queued || again.JobID == u.JobID || again.Epoch <= u.Epoch || again.Attempt != 0 || again.Error != nil || again.StagedUntil != nil {
		t.Errorf("upload = %+v, %v", again, err)
	}
	if !one[bool](t, b.Pool, `SELECT takeovers = 0 AND sessions_lost = 0 AND pushed_high = 50 AND deliver_by > now() FROM slipway.uploads`) {
		t.Error("a budget is spent")
	}
	for what, change := range map[string]string{
		"has not failed":         `UPDATE slipway.uploads SET status = 'queued'`,
		"is not staged any more": `UPDATE slipway.uploads SET status = 'failed', unstaged_at = now()`,
		"is somebody else's":     `UPDATE slipway.uploads SET status = 'failed', unstaged_at = NULL, user_id = 'somebody else'`,
	} {
		b.exec(t, change)
		if _, err := postgres.Requeue(t.Context(), b.Pool, "user_123", u.ID, u.JobID, time.Hour); !errors.Is(err, postgres.ErrNoUpload) {
			t.Errorf("one that %s: %v, want ErrNoUpload", what, err)
		}
	}
}

func TestUploadStatusView(t *testing.T) {
	b := newBench(t)
	u := b.taken(t, staged("user_123"))
	delivers(t, b, u)
	b.accepted(t, staged("somebody else"))
	row, err := asUser(t, b, func(tx pgx.Tx) (bool, error) {
		return one[bool](t, tx, `SELECT to_jsonb(s) - '{created_at,completed_at}'::text[] = jsonb_build_object(
			'id', $1::text, 'user_id', 'user_123', 'status', 'completed', 'provider', 'uploadcare', 'file_name', 'film.mp4', 'size', 100,
			'url', $2::text, 'error_code', NULL, 'metadata', '{}'::jsonb) FROM slipway.upload_status s`, string(u.ID), asset(u).URL), nil
	})
	if err != nil || !row {
		t.Errorf("the view's row is right: %t, %v", row, err)
	}
}
