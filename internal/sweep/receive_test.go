package sweep_test

import (
	"bytes"
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Its sender may have gone with the answer that it is to ask again.
func TestAFileThatIsAllThereIsSentOnItsWay(t *testing.T) {
	p := newPlace(t, time.Hour)
	all, piece := p.accept(t), p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET partial = true, status = 'receiving', job_id = NULL, expires_at = now() + interval '1 hour' WHERE id = $1`, piece.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'receiving', job_id = NULL, staged_at = NULL, receive_epoch = 3, receive_held = true,
		expires_at = now() - interval '1 second' WHERE id = $1`, all.ID)
	p.await(t, all.ID, "sent on its way", func(u upload.Upload) bool { return u.Status == upload.Queued && u.StagedAt != nil })
	p.awaitRow(t, `
		SELECT j.kind = 'push' AND j.args ->> 'upload_id' = u.id::text AND NOT u.receive_held
		FROM slipway.uploads u
		JOIN slipway.river_job j ON j.id = u.job_id
		WHERE u.id = $1`, all.ID)
	if u, err := postgres.UploadOf(t.Context(), p.pool, piece.ID); err != nil || u.Status != upload.Receiving {
		t.Errorf("a piece of a file is %s, %v", u.Status, err)
	}
}

func TestThePiecesOfAFileAreKeptAsLongAsTheFile(t *testing.T) {
	p := newPlace(t, time.Hour)
	file, piece, other := p.accept(t), p.accept(t), p.accept(t)
	for _, u := range []upload.Upload{piece, other} {
		p.exec(t, `UPDATE slipway.uploads SET partial = true, status = 'joined', joined_to = $2, staged_at = NULL WHERE id = $1`, u.ID, file.ID)
		w, err := p.staging.Extend(t.Context(), upload.Segment{Of: u.ID, Number: 4}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Copy(t.Context(), bytes.NewReader([]byte("more"))); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	finished := p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET status = 'completed', staged_until = now() WHERE id = $1`, finished.ID)
	p.await(t, finished.ID, "unstaged", func(u upload.Upload) bool { return u.Unstaged != nil }) // the sweep has looked
	if got := p.where(t, piece.ID); got != "in use" {
		t.Errorf("a piece of a file that is needed is %s", got)
	}
	p.exec(t, `UPDATE slipway.uploads SET status = 'completed', staged_until = now() WHERE id = $1`, file.ID)
	for _, u := range []upload.Upload{piece, other} {
		p.awaitWhere(t, u.ID, "gone")
		p.awaitWhere(t, u.ID+".segments", "gone")
	}
}
