package postgres_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestCheckListsEveryStatus(t *testing.T) {
	b := newBench(t)
	check := one[string](t, b.Pool, `SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'uploads_status_check'`)
	var got, want []string
	for _, m := range regexp.MustCompile(`'([a-z]+)'`).FindAllStringSubmatch(check, -1) {
		got = append(got, m[1])
	}
	for _, s := range upload.Statuses() {
		want = append(want, string(s))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the database knows %v, the program %v", got, want)
	}
}

// changes are the statements that change a status, each with everything else as it wishes.
var changes = map[string]struct {
	from []upload.Status
	to   upload.Status // "": what it was
	make func(t *testing.T, b bench, u upload.Upload) error
}{
	"Take": {[]upload.Status{upload.Queued, upload.Retrying, upload.Pushing}, upload.Pushing, func(t *testing.T, b bench, u upload.Upload) error {
		_, err := postgres.Take(t.Context(), b.Pool, u.ID, u.JobID, "worker", time.Minute)
		return err
	}},
	"Complete": {[]upload.Status{upload.Pushing}, upload.Completed, func(t *testing.T, b bench, u upload.Upload) error {
		return held["Complete"](t.Context(), b, u, 0)
	}},
	"Fail": {[]upload.Status{upload.Pushing}, upload.Failed, func(t *testing.T, b bench, u upload.Upload) error {
		return held["Fail"](t.Context(), b, u, 0)
	}},
	"Wait": {[]upload.Status{upload.Pushing}, upload.Retrying, func(t *testing.T, b bench, u upload.Upload) error {
		return held["Wait"](t.Context(), b, u, 0)
	}},
	"HandBack": {[]upload.Status{upload.Pushing}, upload.Queued, func(t *testing.T, b bench, u upload.Upload) error {
		return held["HandBack"](t.Context(), b, u, 0)
	}},
	"Requeue": {[]upload.Status{upload.Failed}, upload.Queued, func(t *testing.T, b bench, u upload.Upload) error {
		return postgres.AsUser(t.Context(), b.Pool, postgres.Claims{Subject: u.UserID}, func(tx pgx.Tx) error {
			_, err := postgres.Requeue(t.Context(), tx, u.UserID, u.ID, u.JobID, time.Hour)
			return err
		})
	}},
	"RequeueAll": {[]upload.Status{upload.Failed}, upload.Queued, func(t *testing.T, b bench, u upload.Upload) error {
		return requeueAll(t, b, u.UserID, []upload.Upload{u})
	}},
	"ClaimReserved": {[]upload.Status{upload.Reserved}, upload.Verifying, direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.ClaimReserved(t.Context(), tx, u, claimOf(u), time.Hour)
	})},
	"ProveClaim": {[]upload.Status{upload.Verifying}, "", direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.ProveClaim(t.Context(), tx, u, claimOf(u))
	})},
	"OwnAsset": {[]upload.Status{upload.Verifying}, "", direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.OwnAsset(t.Context(), tx, u, assetOf(u).ID)
	})},
	"CompleteDirect": {[]upload.Status{upload.Verifying}, upload.Completed, direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.CompleteDirect(t.Context(), tx, u, assetOf(u), 0)
	})},
	"DescribeDirect": {[]upload.Status{upload.Completed}, "", direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.DescribeDirect(t.Context(), tx, u, assetOf(u))
	})},
	"FailDirect": {[]upload.Status{upload.Verifying}, upload.Failed, direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.FailDirect(t.Context(), tx, u, upload.Error{Code: upload.AssetNotFound})
	})},
	"DelayDirect": {[]upload.Status{upload.Verifying}, "", direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.DelayDirect(t.Context(), tx, u, upload.Error{Code: upload.ProviderThrottled}, time.Minute)
	})},
	"ExpireReserved": {[]upload.Status{upload.Reserved}, upload.Expired, direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.ExpireReserved(t.Context(), tx, u)
	})},
	"Reap of what was being pushed": {[]upload.Status{upload.Pushing}, upload.Queued, reap},
	"Reap of what waited":           {[]upload.Status{upload.Queued, upload.Retrying}, "", reap},
	"Reap that gives up": {[]upload.Status{upload.Queued, upload.Retrying, upload.Pushing}, upload.Failed, func(t *testing.T, b bench, u upload.Upload) error {
		b.exec(t, `UPDATE slipway.uploads SET takeovers = 5`)
		return reap(t, b, u)
	}},
	"Adopt of what was being pushed": {[]upload.Status{upload.Pushing}, upload.Queued, adopt},
	"Adopt of what waited":           {[]upload.Status{upload.Fetching, upload.Queued, upload.Retrying}, "", adopt},

	"TakeFetch": {[]upload.Status{upload.Fetching}, "", func(t *testing.T, b bench, u upload.Upload) error {
		b.exec(t, `INSERT INTO slipway.imports (upload_id, user_id, url, max_bytes, fetch_by) VALUES ($1, $2, 'https://example.com/', 1, now())`, u.ID, u.UserID)
		_, _, err := postgres.TakeFetch(t.Context(), b.Pool, u.ID, u.JobID, "worker", time.Minute)
		return err
	}},
	"DescribeFetch": {[]upload.Status{upload.Fetching}, "", func(t *testing.T, b bench, u upload.Upload) error {
		return postgres.DescribeFetch(t.Context(), b.Pool, u, "")
	}},
	"FetchAdvanced": {[]upload.Status{upload.Fetching}, "", func(t *testing.T, b bench, u upload.Upload) error {
		return postgres.FetchAdvanced(t.Context(), b.Pool, u)
	}},
	"EndFetch": {[]upload.Status{upload.Fetching}, "", func(t *testing.T, b bench, u upload.Upload) error {
		return postgres.EndFetch(t.Context(), b.Pool, u)
	}},
	"WaitFetch": {[]upload.Status{upload.Fetching}, "", direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.WaitFetch(t.Context(), tx, u, upload.Error{Code: upload.SourceThrottled}, time.Minute, false)
	})},
	"FailFetch": {[]upload.Status{upload.Fetching}, upload.Failed, direct(func(t *testing.T, tx pgx.Tx, u upload.Upload) error {
		return postgres.FailFetch(t.Context(), tx, u, upload.Error{Code: upload.SourceRefused})
	})},
	"HandBackFetch": {[]upload.Status{upload.Fetching}, "", func(t *testing.T, b bench, u upload.Upload) error {
		return pgx.BeginFunc(t.Context(), b.Pool, func(tx pgx.Tx) error { return postgres.HandBackFetch(t.Context(), tx, b.queue, u) })
	}},
	"Reap of an import": {[]upload.Status{upload.Fetching}, "", func(t *testing.T, b bench, u upload.Upload) error {
		b.exec(t, `UPDATE slipway.river_job SET kind = 'fetch'`)
		return reap(t, b, u)
	}},
	"Reap that gives an import up": {[]upload.Status{upload.Fetching}, upload.Failed, func(t *testing.T, b bench, u upload.Upload) error {
		b.exec(t, `UPDATE slipway.uploads SET takeovers = 5`)
		b.exec(t, `UPDATE slipway.river_job SET kind = 'fetch'`)
		return reap(t, b, u)
	}},
}

func reap(t *testing.T, b bench, u upload.Upload) error {
	b.exec(t, `UPDATE slipway.uploads SET lease_until = now() - interval '1 hour'`)
	b.exec(t, `UPDATE slipway.river_job SET attempted_at = now() - interval '1 hour'`)
	_, err := postgres.Reap(t.Context(), b.Pool, b.queue, time.Microsecond, time.Hour)
	if err == nil && b.read(t, u.ID).Epoch == u.Epoch {
		err = postgres.ErrNoUpload // it did not care
	}
	return err
}

func adopt(t *testing.T, b bench, u upload.Upload) error {
	b.exec(t, `UPDATE slipway.uploads SET lease_until = NULL`)
	b.exec(t, `DELETE FROM slipway.river_job`)
	n, err := postgres.Adopt(t.Context(), b.Pool, b.queue)
	if err == nil && n == 0 {
		err = postgres.ErrNoUpload
	}
	return err
}

func TestChangesOfStatusAreThoseOfTheTable(t *testing.T) {
	b := newBench(t)
	for name, change := range changes {
		for _, from := range upload.Statuses() {
			if change.to == "" && from == upload.Pushing || name == "Reap of what was being pushed" && slices.Contains(changes["Reap of what waited"].from, from) ||
				name == "Adopt of what was being pushed" && slices.Contains(changes["Adopt of what waited"].from, from) {
				continue // its other half
			}
			t.Run(fmt.Sprintf("%s from %s", name, from), func(t *testing.T) {
				b.exec(t, `DELETE FROM slipway.uploads; DELETE FROM slipway.river_job`)
				u := b.taken(t, staged("user_123"))
				b.exec(t, `UPDATE slipway.uploads SET status = $1`, from)
				err := change.make(t, b, u)
				want := change.to
				if want == "" {
					want = from
				}
				got := b.read(t, u.ID).Status
				switch allowed := slices.Contains(change.from, from); {
				case allowed && (err != nil || got != want):
					t.Errorf("it is %s, %v, want %s", got, err, want)
				case !allowed && (err == nil || got != from):
					t.Errorf("it is %s, %v, want a refusal", got, err)
				case got != from && !from.CanBecome(got):
					t.Errorf("it is %s, which upload.Status does not allow", got)
				}
				said := one[string](t, b.Pool, `SELECT status FROM slipway.upload_events ORDER BY seq DESC LIMIT 1`)
				if got != from && said != string(got) {
					t.Errorf("it is %s, the last event says %s", got, said)
				}
			})
		}
	}
}
