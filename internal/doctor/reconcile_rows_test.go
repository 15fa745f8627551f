package doctor

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/process"
	"slipway/internal/staging/dir"
	"slipway/internal/upload"
)

// A row says that it lets its file go before the file is removed. What was read of it before that tells nothing.
func TestAFileThatItsRowHasLetGoMeanwhileIsNotMissing(t *testing.T) {
	pool, err := postgres.Open(t.Context(), postgres.Options{URL: postgrestest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	queue, err := postgres.NewQueue(pool, postgres.DefaultNames)
	if err != nil {
		t.Fatal(err)
	}
	store, err := dir.New(t.TempDir(), dir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &reconciler{base: &process.Base{Pool: pool, Queue: queue, Staging: store}, plan: &Plan{}}
	delivered, lost := upload.NewID(), upload.NewID()
	for _, id := range []upload.ID{delivered, lost} {
		err := postgres.AsUser(t.Context(), pool, postgres.Claims{Subject: "ann"}, func(tx pgx.Tx) error {
			return postgres.InsertStaged(t.Context(), tx, upload.Upload{ID: id, UserID: "ann", Provider: "uploadcare", FileName: "a", ContentType: "b/c", Size: 5, MaxAttempts: 3}, 0)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.Append(t.Context(), id, 0, strings.NewReader("bytes")); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := postgres.StagedUploads(t.Context(), pool, "", 10)
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE slipway.uploads SET status = 'completed', unstaged_at = now() WHERE id = $1`, delivered); err != nil {
		t.Fatal(err)
	}
	for _, id := range []upload.ID{delivered, lost} {
		if err := store.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.missing(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	if d := r.plan.Differences; len(d) != 1 || d[0].UploadID != lost || d[0].Kind != StagedMissing {
		t.Errorf("differences are %+v, want %s alone", d, lost)
	}
}
