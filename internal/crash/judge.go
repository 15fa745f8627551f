package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/config"
	"slipway/internal/doctor"
	"slipway/internal/upload"
)

// notOver counts what somebody still has to work on. What was reserved and not saved waits for its browser.
const notOver = `
	SELECT (SELECT count(*) FROM slipway.uploads WHERE status IN ('receiving', 'fetching', 'verifying', 'queued', 'pushing', 'retrying')),
	       (SELECT count(*) FROM slipway.uploads WHERE status = 'deleting') + (SELECT count(*) FROM slipway.file_deletions),
	       (SELECT count(*) FROM slipway.uploads WHERE status IN ('completed', 'canceled', 'expired', 'deleted') AND size IS NOT NULL AND staged_at IS NOT NULL AND unstaged_at IS NULL)`

// awaitEnd waits until everything is final, or the time is up; what is not over then is for the judge.
func (l *lab) awaitEnd(ctx context.Context, until time.Time) error {
	for said := time.Now(); ; {
		var moving, clearing, staged int
		asking, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := l.pool.QueryRow(asking, notOver).Scan(&moving, &clearing, &staged)
		cancel()
		if err == nil && moving == 0 && staged == 0 && (clearing == 0 || !l.clearing) {
			return nil
		}
		if time.Now().After(until) {
			l.mishap.add("not over in time: %d uploads on their way, %d to be cleared up, %d still staged (%v)", moving, clearing, staged, err)
			return nil
		}
		if time.Since(said) > 15*time.Second {
			said = time.Now()
			fmt.Fprintf(l.out, "%s: %d uploads are on their way, %d are to be cleared up, %d still staged\n", since(l.began), moving, clearing, staged)
		}
		if !pause(ctx, 250*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// row is what the database says of an upload in the end.
type row struct {
	ID       upload.ID
	Name     string
	Status   upload.Status
	Provider string
	Size     int64
	High     int64 // most bytes that its provider has acknowledged
	Direct   bool
	Code     *upload.Code
	Message  *string
	Asset    *upload.Asset
}

// judge compares what was acknowledged with what is there.
func (l *lab) judge(ctx context.Context, p plan, all []sent) (*result, error) {
	r := &result{failed: map[string]int{}, pushed: l.meter.pushed.Load(), direct: l.meter.direct.Load(), mishaps: l.mishap.all, kills: p.kills(), uploads: len(p.parcels), small: l.small}
	rows, err := l.rows(ctx)
	if err != nil {
		return nil, err
	}
	parcels := map[string]parcel{}
	for _, x := range p.parcels {
		parcels[x.name()] = x
	}
	for _, u := range rows {
		r.recorded++
		if !u.Direct {
			r.needed += u.High
		}
		if u.Status != upload.Completed {
			continue
		}
		x, known := parcels[u.Name]
		if !known || u.Asset == nil {
			r.wrong("%s is completed as %q, which nobody has sent, or without an asset", u.ID, u.Name)
			continue
		}
		got, err := l.sumAt(ctx, u.Asset.URL)
		if err != nil || got != x.sum(l.seed) {
			r.corrupted = append(r.corrupted, fmt.Sprintf("%s (%s, %s by %s to %s): the provider's URL leads to other bytes than were sent (%v)", u.ID, u.Name, bytes(x.size), x.route, u.Provider, err))
		}
	}
	for _, s := range all {
		r.owe(s, rows)
	}
	made := map[string]upload.ID{}
	for _, u := range rows {
		if one, twice := made[u.Name]; twice && parcels[u.Name].keyed && parcels[u.Name].route != "direct" {
			r.wrong("%s and %s are of one file, although each request said so by its key", one, u.ID)
		}
		made[u.Name] = u.ID
	}
	for _, look := range []func(context.Context, map[upload.ID]row, *result) error{l.lookAtProviders, l.lookAtHistory, l.lookAtTakeovers, l.reconcile} {
		if err := look(ctx, rows, r); err != nil {
			return nil, err
		}
	}
	l.lookAtProcesses(r)
	return r, nil
}

func (l *lab) rows(ctx context.Context) (map[upload.ID]row, error) {
	found, err := l.pool.Query(ctx, `
		SELECT u.id, u.file_name AS name, u.status, u.provider, coalesce(u.size, 0) AS size, u.pushed_high AS high, u.staged_at IS NULL AS direct,
		       u.error_code AS code, u.error_message AS message, u.asset
		FROM slipway.uploads u`)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(found, pgx.RowToStructByName[row])
	rows := map[upload.ID]row{}
	for _, u := range list {
		rows[u.ID] = u
	}
	return rows, err
}

// owe judges what has become of what one owner was told.
func (r *result) owe(s sent, rows map[upload.ID]row) {
	if s.id == "" {
		r.unaccepted = append(r.unaccepted, fmt.Sprintf("%s (%s by %s to %s): %s", s.name(), bytes(s.size), s.route, s.provider, s.last))
		return
	}
	r.acknowledged++
	r.bytes += s.size
	u, ok := rows[s.id]
	ended := u.Status == upload.Canceled || u.Status == upload.Deleting || u.Status == upload.Deleted
	switch {
	case !ok:
		r.lose(s, "there is no such upload")
	case s.became == upload.Canceled && !ended, (s.became == upload.Deleting || s.became == upload.Deleted) && !ended:
		r.wrong("%s was said to be %s, and is %s", s.id, s.became, u.Status)
	case u.Status == upload.Completed:
		r.completed++
	case u.Status == upload.Failed && u.Code != nil && u.Message != nil && *u.Message != "":
		r.failed[string(*u.Code)]++
	case ended && s.asked:
		r.ended++
	default:
		r.lose(s, "it is "+string(u.Status))
	}
}

// sumAt is the SHA-256 of what a URL leads to.
func (l *lab) sumAt(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lookAtProviders looks for assets that no completed upload names, and for those that two name. What belongs to an
// upload that is still being cleared up does not count, where that was not waited for.
func (l *lab) lookAtProviders(ctx context.Context, rows map[upload.ID]row, r *result) error {
	owners := map[string][]upload.ID{}
	for _, u := range rows {
		if u.Asset != nil && u.Status == upload.Completed {
			owners[u.Asset.ID] = append(owners[u.Asset.ID], u.ID)
		}
	}
	var going []string // names of files
	err := l.pool.QueryRow(ctx, `
		SELECT coalesce(array_agg(u.file_name), '{}')
		FROM slipway.uploads u
		WHERE u.status = 'reserved' OR EXISTS (SELECT FROM slipway.file_deletions d WHERE d.upload_id = u.id)`).Scan(&going)
	if err != nil {
		return err
	}
	check := func(provider, id, name string) {
		switch n := len(owners[id]); {
		case n > 1:
			r.duplicates = append(r.duplicates, fmt.Sprintf("%s of %s is the asset of %v", id, provider, owners[id]))
		case n == 0 && !slices.Contains(going, name):
			r.duplicates = append(r.duplicates, fmt.Sprintf("%s (%s) is stored at %s, and no completed upload names it", id, name, provider))
		}
		r.stored++
	}
	files, err := l.sims.Uploadcare.Inventory()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Stored && !f.Removed {
			check("uploadcare", f.UUID, f.Name)
		}
	}
	for _, f := range l.sims.Cloudinary.Inventory().Files {
		name := f.PublicID
		for _, u := range rows {
			if strings.Contains(f.PublicID, string(u.ID)) {
				name = u.Name
			}
		}
		check("cloudinary", f.PublicID, name)
	}
	return nil
}

// lookAtHistory checks that no upload became what it could not, and that none ended twice.
func (l *lab) lookAtHistory(ctx context.Context, rows map[upload.ID]row, r *result) error {
	found, err := l.pool.Query(ctx, `SELECT upload_id, type, status FROM slipway.upload_events ORDER BY seq`)
	if err != nil {
		return err
	}
	last := map[upload.ID]upload.Status{}
	var id upload.ID
	var kind upload.EventType
	var status upload.Status
	if _, err := pgx.ForEachRow(found, []any{&id, &kind, &status}, func() error {
		was, ok := last[id]
		switch {
		case ok && was == status && kind == upload.StatusChanged && status.Final():
			r.wrong("%s became %s twice", id, status)
		case ok && was != status && !was.CanBecome(status):
			r.wrong("%s went from %s to %s", id, was, status)
		}
		last[id] = status
		return nil
	}); err != nil {
		return err
	}
	for id, u := range rows {
		if last[id] != u.Status && u.Status != upload.Reserved {
			r.wrong("%s is %s, and its history ends with %q", id, u.Status, last[id])
		}
	}
	var jobs int
	err = l.pool.QueryRow(ctx, `
		SELECT count(*)
		FROM slipway.river_job j
		WHERE j.kind = 'push' AND j.state IN ('available', 'scheduled', 'retryable', 'pending', 'running')
		  AND NOT EXISTS (SELECT FROM slipway.uploads u WHERE u.job_id = j.id AND u.status IN ('queued', 'pushing', 'retrying'))`).Scan(&jobs)
	if jobs > 0 {
		r.wrong("%d jobs would push what is not to be pushed", jobs)
	}
	return err
}

// lookAtTakeovers measures how long it took from the death of a process, or the beginning of its sleep, until
// what it was pushing was another's to go on with, and until that was begun.
func (l *lab) lookAtTakeovers(ctx context.Context, _ map[upload.ID]row, r *result) error {
	if err := l.pool.QueryRow(ctx, `SELECT count(*) FROM slipway.upload_events WHERE type = 'takeover'`).Scan(&r.takeovers); err != nil {
		return err
	}
	for _, d := range l.deaths.all {
		var given, begun *time.Time
		err := l.pool.QueryRow(ctx, `
			WITH given AS (
				SELECT seq, at
				FROM slipway.upload_events
				WHERE upload_id = $1 AND type = 'takeover' AND at > $2
				  AND NOT EXISTS (
				      SELECT FROM slipway.upload_events e
				      WHERE e.upload_id = $1 AND e.type = 'status' AND e.at > $2 AND e.seq < upload_events.seq)
				ORDER BY seq
				LIMIT 1)
			SELECT (SELECT at FROM given),
			       (SELECT min(e.at) FROM slipway.upload_events e, given
			        WHERE e.upload_id = $1 AND e.type = 'status' AND e.status = 'pushing' AND e.seq > given.seq)`, d.id, d.at).Scan(&given, &begun)
		if err != nil {
			return err
		}
		switch {
		case given == nil:
		case l.deaths.restartNear(d.at, *given):
			r.delayed = append(r.delayed, given.Sub(d.at))
		default:
			r.given = append(r.given, given.Sub(d.at))
		}
		if begun != nil {
			r.begun = append(r.begun, begun.Sub(d.at))
		}
	}
	return nil
}

// reconcile lets the doctor compare everything with everything. What deaths have left in staging it removes, as the
// sweep does an hour later; of all else there must be nothing.
func (l *lab) reconcile(ctx context.Context, _ map[upload.ID]row, r *result) error {
	var env []string
	for name, value := range l.env {
		env = append(env, name+"="+value)
	}
	c, err := config.Load(config.Options{Environ: env, Need: config.NeedDatabase | config.NeedWorker})
	if err != nil {
		return err
	}
	o := doctor.ReconcileOptions{Config: c, Apply: true, Log: slog.New(slog.DiscardHandler)}
	for n := range 2 {
		plan, err := doctor.Reconcile(ctx, o)
		if err != nil {
			return err
		}
		for _, u := range plan.Unanswered {
			r.wrong("%s could not be compared: %s", u.Part, u.Why)
		}
		for _, d := range plan.Differences {
			if n == 0 && d.Kind == doctor.StagedUnneeded {
				r.left++
				r.leftBytes += d.Bytes
				continue
			}
			r.wrong("%s %s %s: %s", d.Kind, d.UploadID, d.AssetID, d.Text)
		}
	}
	return nil
}

// panics is what a Go program says when it breaks.
var panics = regexp.MustCompile(`(?m)^(panic|fatal error|WARNING: DATA RACE).*$`)

// lookAtProcesses asks the processes to end, and reads what they have said.
func (l *lab) lookAtProcesses(r *result) {
	for _, p := range l.posts {
		if err := p.stop(20 * time.Second); err != nil {
			r.wrong("%v", err)
		}
		r.quits += p.quits
		text, err := os.ReadFile(p.log())
		if err != nil {
			r.wrong("%v", err)
		}
		if found := panics.Find(text); found != nil {
			r.wrong("%s: %s", p.name, found)
		}
	}
}
