package sweep_test

import (
	"testing"
	"time"
)

func TestTheHistoryIsPrunedFromItsBeginning(t *testing.T) {
	p := newPlace(t, time.Minute)
	p.stop()
	u := p.accept(t)
	p.exec(t, `INSERT INTO slipway.upload_events (upload_id, user_id, type, status, at)
		SELECT $1, 'user_123', 'progress', 'pushing', now() - interval '3 hours' FROM generate_series(1, 2500)`, u.ID)
	p.exec(t, `INSERT INTO slipway.upload_events (upload_id, user_id, type, status) VALUES ($1, 'user_123', 'status', 'completed')`, u.ID)
	p.exec(t, `UPDATE slipway.upload_events SET at = now() - interval '3 hours' WHERE seq = 1`)
	p.sweeper.KeepHistory = time.Hour
	p.run(t)
	p.awaitRow(t, `SELECT count(*) = 1 AND min(status) = 'completed' FROM slipway.upload_events`)
	p.awaitRow(t, `SELECT pruned_through = (SELECT min(seq) - 1 FROM slipway.upload_events) FROM slipway.event_log`)
}
