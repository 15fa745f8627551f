package push_test

import (
	"context"
	"math"

	"pgregory.net/rapid"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// gauge watches how far an upload has come: by its row whenever that is looked at, and in the end by its history. Whatever
// befalls it, that never falls; bytes that the provider has acknowledged do so only with a new session, whose event says why.
type gauge struct {
	version  int64
	progress float64
	looks    int
	grew     int
}

// looked takes a row that was read after those before it.
func (g *gauge) looked(rt *rapid.T, u upload.Upload) {
	switch {
	case u.Version < g.version:
		rt.Errorf("version %d comes after %d", u.Version, g.version)
	case u.Progress < g.progress:
		rt.Errorf("progress has fallen from %g to %g in version %d", g.progress, u.Progress, u.Version)
	case u.Progress > 1 || u.Pushed > u.Size:
		rt.Errorf("progress is %g, with %d of %d bytes pushed", u.Progress, u.Pushed, u.Size)
	case u.Progress == g.progress && g.looks > 0:
	default:
		g.grew++
	}
	g.version, g.progress = u.Version, u.Progress
	g.looks++
}

// told holds the whole history to it, and returns how much of it told of progress.
func (g *gauge) told(rt *rapid.T, y *yard, u upload.Upload) (n int) {
	events, err := postgres.Events(context.Background(), y.pool, u.UserID, u.ID, 0, math.MaxInt32)
	if err != nil {
		rt.Fatal(err)
	}
	var progress, pushed float64
	sessions := 0
	for _, e := range events {
		switch e.Type {
		case upload.SessionOpened:
			if _, why := e.Data["reason"]; sessions > 0 && !why {
				rt.Errorf("session %d begins and does not say why: %v", sessions+1, e.Data)
			}
			sessions++
			pushed = 0
		case upload.ProgressMade:
			n++
			now, sent := e.Data["progress"].(float64), e.Data["pushed_bytes"].(float64)
			if now < progress || sent < pushed || now > 1 {
				rt.Errorf("event %d tells of progress %g and %g bytes, after %g and %g", e.Seq, now, sent, progress, pushed)
			}
			progress, pushed = now, sent
		}
	}
	if progress > u.Progress+0.0001 { // it is told to four digits
		rt.Errorf("the history has come to %g, the upload to %g", progress, u.Progress)
	}
	return n
}
