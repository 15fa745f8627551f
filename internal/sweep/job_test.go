package sweep_test

import (
	"testing"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// An upload that is queued, pushing or retrying has the id of a River row that will run, or a live lease. Each
// case breaks that in one way, or only seems to.
func TestAnUploadOnItsWayHasAJobThatWillRun(t *testing.T) {
	const (
		pushing  = `UPDATE slipway.uploads SET status = 'pushing', attempt = 2, lease_epoch = 7, lease_owner = 'gone', lease_until = now() - interval '1 second' WHERE id = $1`
		live     = `UPDATE slipway.uploads SET status = 'pushing', attempt = 2, lease_epoch = 7, lease_owner = 'here', lease_until = now() + interval '1 hour' WHERE id = $1`
		retrying = `UPDATE slipway.uploads SET status = 'retrying', attempt = 2, next_attempt_at = now() + interval '1 hour' WHERE id = $1`
		job      = `UPDATE slipway.river_job SET `
		ofIt     = ` WHERE id = (SELECT job_id FROM slipway.uploads WHERE id = $1)`
		ended    = `, finalized_at = now()`
		another  = `INSERT INTO slipway.river_job (args, kind, max_attempts, queue, state)
			SELECT jsonb_build_object('upload_id', $1::uuid), 'push', 9, 'uploadcare_small', 'available' `
		running = job + `state = 'running', attempt = 1, attempted_at = now()` + ofIt
	)
	tests := map[string]struct {
		broken  []string
		renewed bool
		want    upload.Status // afterwards
	}{
		"a job that waits stays":                                {nil, false, upload.Queued},
		"a job that was removed is replaced":                    {[]string{`DELETE FROM slipway.river_job` + ofIt}, true, upload.Queued},
		"so is one that is not named":                           {[]string{`UPDATE slipway.uploads SET job_id = NULL WHERE id = $1`}, true, upload.Queued},
		"so is one that is completed":                           {[]string{job + `state = 'completed'` + ended + ofIt}, true, upload.Queued},
		"so is one that was canceled":                           {[]string{job + `state = 'cancelled'` + ended + ofIt}, true, upload.Queued},
		"so is one that was discarded":                          {[]string{job + `state = 'discarded'` + ended + ofIt}, true, upload.Queued},
		"so is one that River does not work":                    {[]string{job + `state = 'pending'` + ofIt}, true, upload.Queued},
		"so is another upload's":                                {[]string{job + `args = jsonb_build_object('upload_id', gen_random_uuid())` + ofIt}, true, upload.Queued},
		"so is one that is no push":                             {[]string{job + `kind = 'verify'` + ofIt}, true, upload.Queued},
		"so is one that is due long after it should":            {[]string{job + `state = 'scheduled', scheduled_at = now() + interval '1 day'` + ofIt}, true, upload.Queued},
		"so is one of an upload that waits, if it is due later": {[]string{retrying, job + `state = 'retryable', scheduled_at = now() + interval '1 day'` + ofIt}, true, upload.Retrying},
		"so is one that ended of an upload that waits":          {[]string{retrying, job + `state = 'discarded'` + ended + ofIt}, true, upload.Retrying},
		"so is one that ended under a lease that ran out":       {[]string{pushing, job + `state = 'completed'` + ended + ofIt}, true, upload.Queued},
		"so is one whose worker died with the lease":            {[]string{pushing, running, job + `attempted_at = now() - interval '1 day'` + ofIt}, true, upload.Queued},
		"so is one whose worker died before it had the lease":   {[]string{running, job + `attempted_at = now() - interval '1 day'` + ofIt}, true, upload.Queued},
		"one that ended under a live lease stays":               {[]string{live, job + `state = 'completed'` + ended + ofIt}, false, upload.Pushing},
		"one that runs under a live lease stays":                {[]string{live, running, job + `attempted_at = now() - interval '1 day'` + ofIt}, false, upload.Pushing},
		"one that waits after a lease that ran out stays":       {[]string{pushing}, false, upload.Pushing},
		"one that is due when the upload is stays":              {[]string{retrying, job + `state = 'scheduled', scheduled_at = now() + interval '1 hour'` + ofIt}, false, upload.Retrying},
		"one that is there too early stays":                     {[]string{retrying, job + `state = 'available'` + ofIt}, false, upload.Retrying},
		"a second one is nobody's business":                     {[]string{another}, false, upload.Queued},
		"of two the one that is named counts":                   {[]string{another, job + `state = 'discarded'` + ended + ofIt}, true, upload.Queued},
		"an upload that has ended needs none": {[]string{`DELETE FROM slipway.river_job` + ofIt,
			`UPDATE slipway.uploads SET status = 'failed' WHERE id = $1`}, false, upload.Failed},
	}
	p := newPlace(t, time.Hour)
	uploads := map[string]upload.Upload{}
	for name, tt := range tests {
		u := p.accept(t)
		tx, err := p.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range tt.broken {
			if _, err := tx.Exec(t.Context(), statement, u.ID); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		uploads[name] = u
	}
	p.restart(t, 200*time.Millisecond) // nobody's worker is dead before it is
	for name, tt := range tests {
		if tt.renewed {
			before := uploads[name].JobID
			p.await(t, uploads[name].ID, "given another job: "+name, func(now upload.Upload) bool { return now.JobID != before && now.JobID != 0 })
		}
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now, err := postgres.UploadOf(t.Context(), p.pool, uploads[name].ID)
			if err != nil {
				t.Fatal(err)
			}
			if now.Status != tt.want {
				t.Errorf("the upload is %s, want %s", now.Status, tt.want)
			}
			if !tt.renewed && now.JobID != uploads[name].JobID {
				t.Errorf("job %d was replaced by %d", uploads[name].JobID, now.JobID)
			}
		})
	}
	p.wantInvariant(t)
}

// wantInvariant fails where an upload on its way has neither a job that will run nor a live lease.
func (p *place) wantInvariant(t *testing.T) {
	t.Helper()
	var broken []string
	err := p.pool.QueryRow(t.Context(), `
		SELECT coalesce(array_agg(u.id::text || ' ' || u.status), '{}')
		FROM slipway.uploads u
		WHERE u.status IN ('queued', 'pushing', 'retrying') AND coalesce(u.lease_until < now(), true) AND NOT EXISTS (
			SELECT FROM slipway.river_job j
			WHERE j.id = u.job_id AND j.kind = 'push' AND j.args ->> 'upload_id' = u.id::text
			  AND j.state IN ('available', 'scheduled', 'retryable', 'running'))`).Scan(&broken)
	if err != nil || len(broken) > 0 {
		t.Errorf("these have no job that will run: %v %v", broken, err)
	}
}

func TestADeletionThatNothingSaysAnyMoreIsWrittenDownAnew(t *testing.T) {
	p := newPlace(t, time.Hour)
	stored, unfinished := p.accept(t), p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET status = 'deleting', asset = '{"id":"a","url":"u","size":5}', completed_at = now() WHERE id = $1`, stored.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'deleting' WHERE id = $1`, unfinished.ID)
	p.awaitRow(t, `
		SELECT count(*) = 2
		FROM slipway.file_deletions d
		JOIN slipway.river_job j ON j.id = d.job_id AND j.kind = 'delete_asset' AND j.args ->> 'deletion_id' = d.id::text
		WHERE d.upload_id = $1 AND d.asset ->> 'id' = 'a' OR d.upload_id = $2 AND d.asset IS NULL`, stored.ID, unfinished.ID)
}

func TestWhatWaitsForAQuestionThatNobodyAsksIsAskedFor(t *testing.T) {
	p := newPlace(t, time.Hour)
	verifying, reserved, waiting := p.accept(t), p.accept(t), p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET status = 'verifying' WHERE id = $1`, verifying.ID) // its job is no question
	p.exec(t, `UPDATE slipway.uploads SET status = 'reserved', expires_at = now() - interval '1 second', job_id = NULL WHERE id = $1`, reserved.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'reserved', expires_at = now() + interval '1 hour', job_id = NULL WHERE id = $1`, waiting.ID)
	for _, id := range []upload.ID{verifying.ID, reserved.ID} {
		p.awaitRow(t, `
			SELECT EXISTS (
				SELECT FROM slipway.uploads u
				JOIN slipway.river_job j ON j.id = u.job_id AND j.kind = 'verify' AND j.args ->> 'upload_id' = u.id::text
				WHERE u.id = $1)`, id)
	}
	if u, err := postgres.UploadOf(t.Context(), p.pool, waiting.ID); err != nil || u.JobID != 0 {
		t.Errorf("an upload that may still come is asked for: %+v, %v", u, err)
	}
}

func TestAnUploadThatNobodyGoesOnWithExpires(t *testing.T) {
	p := newPlace(t, time.Hour)
	over, coming := p.accept(t), p.accept(t)
	p.exec(t, `UPDATE slipway.uploads SET status = 'receiving', received_bytes = 3, expires_at = now() + interval '1 hour' WHERE id = $1`, coming.ID)
	p.exec(t, `UPDATE slipway.uploads SET status = 'receiving', received_bytes = 3, expires_at = now() - interval '1 second', receive_epoch = 3 WHERE id = $1`, over.ID)
	p.await(t, over.ID, "expired and unstaged", func(u upload.Upload) bool { return u.Status == upload.Expired && u.Unstaged != nil })
	p.awaitRow(t, `
		SELECT u.receive_epoch = 4 AND EXISTS (SELECT FROM slipway.upload_events e WHERE e.upload_id = u.id AND e.status = 'expired')
		FROM slipway.uploads u
		WHERE u.id = $1`, over.ID)
	if u, err := postgres.UploadOf(t.Context(), p.pool, coming.ID); err != nil || u.Status != upload.Receiving {
		t.Errorf("an upload that has time left is %s, %v", u.Status, err)
	}
}
