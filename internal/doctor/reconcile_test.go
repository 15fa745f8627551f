package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/config"
	"slipway/internal/doctor"
	"slipway/internal/ingest"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/process"
	"slipway/internal/provider"
	"slipway/internal/provider/providertest"
	"slipway/internal/push"
	"slipway/internal/upload"
)

// running is an installation with a worker, on accounts that it may share with others.
type running struct {
	env       map[string]string
	config    *config.Config
	base      *process.Base
	ingest    *ingest.Ingest
	providers map[string]provider.Provider
}

func install(t *testing.T, env map[string]string) *running {
	t.Helper()
	in := &running{env: maps.Clone(env), providers: map[string]provider.Provider{}}
	in.env["DATABASE_URL"], in.env["STAGING_DIR"] = postgrestest.Original(t), t.TempDir()
	var environ []string
	for name, value := range in.env {
		environ = append(environ, name+"="+value)
	}
	var err error
	if in.config, err = config.Load(config.Options{Environ: environ, Need: config.NeedDatabase | config.NeedAPI | config.NeedWorker}); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	if in.base, err = process.OpenDirect(t.Context(), in.config, "test", quiet); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.base.Pool.Close)
	in.ingest = &ingest.Ingest{
		Pool: in.base.Pool, Queue: in.base.Queue, Staging: in.base.Staging, Log: quiet,
		Providers: []string{"uploadcare", "cloudinary"}, DefaultProvider: "uploadcare", MaxBytes: 1 << 20, MaxAttempts: 3, DeliverWithin: time.Hour,
	}
	providers, err := process.Providers(in.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range providers {
		in.providers[p.Name()] = p
	}
	service, err := push.Start(t.Context(), in.base.Pool, in.base.Names, in.base.Staging, providers, push.Settings{
		Installation: in.base.Installation.ID, Owner: "test", FilesInFlight: 2, PartsInFlight: 2, KeepFailed: time.Hour,
		Poll: 50 * time.Millisecond, Settle: 50 * time.Millisecond,
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := service.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return in
}

func (in *running) send(t *testing.T, name string) upload.ID {
	t.Helper()
	content := make([]byte, 200)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	s, err := in.ingest.Receive(t.Context(), ingest.Request{User: "ann", Length: -1}, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	u, err := in.ingest.Accept(t.Context(), ingest.Request{User: "ann", Provider: name, Length: -1}, s)
	if err != nil {
		t.Fatal(err)
	}
	return u.ID
}

func (in *running) delivered(t *testing.T, name string) upload.Upload {
	t.Helper()
	return in.await(t, in.send(t, name), upload.Completed)
}

func (in *running) await(t *testing.T, id upload.ID, want upload.Status) upload.Upload {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		u, err := postgres.UploadOf(t.Context(), in.base.Pool, id)
		if err != nil {
			t.Fatal(err)
		}
		if u.Status == want {
			return u
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %s: %v", id, u.Status, u.Error)
		}
		<-tick.C
	}
}

func (in *running) exec(t *testing.T, sql string, a ...any) {
	t.Helper()
	if _, err := in.base.Pool.Exec(t.Context(), sql, a...); err != nil {
		t.Fatal(err)
	}
}

func (in *running) reconcile(t *testing.T, grace time.Duration, apply bool) doctor.Plan {
	t.Helper()
	plan, err := doctor.Reconcile(t.Context(), doctor.ReconcileOptions{Config: in.config, Grace: grace, Apply: apply, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Unanswered) > 0 {
		t.Errorf("not all was answered: %v", plan.Unanswered)
	}
	return plan
}

// has tells whether the provider has the asset.
func (in *running) has(t *testing.T, name string, a upload.Asset) bool {
	t.Helper()
	absent, err := in.providers[name].(provider.Lister).Absent(t.Context(), []upload.Asset{a})
	if err != nil {
		t.Fatal(err)
	}
	return len(absent) == 0
}

// said is each difference as "kind upload", sorted.
func said(p doctor.Plan) []string {
	var all []string
	for _, d := range p.Differences {
		all = append(all, fmt.Sprintf("%s %s", d.Kind, d.UploadID))
	}
	slices.Sort(all)
	return all
}

func wantPlan(t *testing.T, when string, p doctor.Plan, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := said(p); !slices.Equal(got, want) {
		t.Errorf("%s: differences are\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestReconcileFindsEveryDifferenceAndMendsWhatItCan(t *testing.T) {
	env := surroundings(t)
	in, other := install(t, env), install(t, env)
	for _, name := range []string{"uploadcare", "cloudinary"} {
		for range 2 {
			in.delivered(t, name)
			other.delivered(t, name)
		}
	}
	wantPlan(t, "when all is well", in.reconcile(t, 0, true))

	var want, lasting []string
	differs := func(kind doctor.DifferenceKind, id upload.ID, mended bool) {
		want = append(want, fmt.Sprintf("%s %s", kind, id))
		if !mended {
			lasting = append(lasting, want[len(want)-1])
		}
	}
	assets := map[string][]upload.Asset{} // that are to be removed
	for _, name := range []string{"uploadcare", "cloudinary"} {
		table, key := name+"_files", map[string]string{"uploadcare": "file_id", "cloudinary": "public_id"}[name]
		unknown := upload.NewID()
		assets[name] = append(assets[name], providertest.Store(t, in.providers[name], in.base.Installation.ID, unknown))
		differs(doctor.AssetUnnamed, unknown, true)

		deleted := in.delivered(t, name)
		in.exec(t, `UPDATE slipway.uploads SET status = 'deleted', asset = NULL WHERE id = $1`, deleted.ID)
		in.exec(t, `DELETE FROM public.`+table+` WHERE upload_id = $1`, deleted.ID)
		assets[name] = append(assets[name], *deleted.Asset)
		differs(doctor.AssetUnnamed, deleted.ID, true)

		gone := in.delivered(t, name)
		if err := in.providers[name].Delete(t.Context(), *gone.Asset); err != nil {
			t.Fatal(err)
		}
		differs(doctor.AssetGone, gone.ID, true)

		renamed := in.delivered(t, name)
		in.exec(t, `UPDATE public.`+table+` SET `+key+` = 'something else' WHERE upload_id = $1`, renamed.ID)
		differs(doctor.GuideRowDiffers, renamed.ID, true)
		given := in.delivered(t, name)
		in.exec(t, `UPDATE public.`+table+` SET user_id = 'bob' WHERE upload_id = $1`, given.ID)
		differs(doctor.GuideRowForeign, given.ID, false)
		removed := in.delivered(t, name)
		in.exec(t, `DELETE FROM public.`+table+` WHERE upload_id = $1`, removed.ID)
		differs(doctor.GuideRowMissing, removed.ID, false)
		dangling := in.delivered(t, name)
		in.exec(t, `UPDATE public.`+table+` SET upload_id = gen_random_uuid() WHERE upload_id = $1`, dangling.ID)
		differs(doctor.GuideRowMissing, dangling.ID, false)
		var nowhere upload.ID
		if err := in.base.Pool.QueryRow(t.Context(), `SELECT upload_id FROM public.`+table+` WHERE `+key+` = $1`, dangling.Asset.ID).Scan(&nowhere); err != nil {
			t.Fatal(err)
		}
		differs(doctor.GuideRowDangling, nowhere, false)
	}
	leftBehind := upload.NewID()
	if _, _, err := in.base.Staging.Append(t.Context(), leftBehind, 0, strings.NewReader("left")); err != nil {
		t.Fatal(err)
	}
	differs(doctor.StagedUnneeded, leftBehind, true)
	lost := func(status string) upload.ID {
		u := in.delivered(t, "uploadcare")
		in.exec(t, `DELETE FROM public.uploadcare_files WHERE upload_id = $1`, u.ID)
		in.exec(t, `UPDATE slipway.uploads SET status = $2, unstaged_at = NULL, asset = NULL, job_id = NULL, completed_at = NULL WHERE id = $1`, u.ID, status)
		return u.ID
	}
	differs(doctor.StagedMissing, lost("queued"), false)
	differs(doctor.StagedMissing, lost("failed"), true)
	inTrash := lost("retrying")
	if err := os.MkdirAll(filepath.Join(in.env["STAGING_DIR"], "trash"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(in.env["STAGING_DIR"], "trash", string(inTrash)), []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	differs(doctor.StagedInTrash, inTrash, true)

	hour := in.reconcile(t, time.Hour, true)
	for _, d := range hour.Differences {
		if d.Kind == doctor.AssetUnnamed || d.Kind == doctor.AssetGone || d.Kind == doctor.StagedUnneeded {
			t.Errorf("%+v is younger than the grace", d)
		}
	}
	in.exec(t, `UPDATE slipway.uploads SET unstaged_at = NULL WHERE status = 'failed'`) // what an hour's grace does not hold up
	for _, name := range []string{"uploadcare", "cloudinary"} {
		key := map[string]string{"uploadcare": "file_id", "cloudinary": "public_id"}[name]
		in.exec(t, `UPDATE public.`+name+`_files f SET `+key+` = 'something else' WHERE upload_id = ANY ($1::uuid[])`, idsOf(hour, doctor.GuideRowDiffers, name))
	}
	if err := os.Rename(filepath.Join(in.env["STAGING_DIR"], string(inTrash)), filepath.Join(in.env["STAGING_DIR"], "trash", string(inTrash))); err != nil {
		t.Fatal(err)
	}

	theirs := other.reconcile(t, 0, false)
	wantPlan(t, "in the other installation", theirs)
	for range 2 {
		wantPlan(t, "without --apply", in.reconcile(t, 0, false), want...)
	}
	applied := in.reconcile(t, 0, true)
	wantPlan(t, "with --apply", applied, want...)
	if applied.Open() != len(lasting) {
		t.Errorf("%d differences are open, want the %d that a person has to see to", applied.Open(), len(lasting))
	}
	wantPlan(t, "after --apply", in.reconcile(t, 0, false), lasting...)
	wantPlan(t, "in the other installation, after it", other.reconcile(t, 0, false))
	for name, all := range assets {
		for _, a := range all {
			if in.has(t, name, a) {
				t.Errorf("%s still has %s", name, a.ID)
			}
		}
	}
}

func idsOf(p doctor.Plan, kind doctor.DifferenceKind, provider string) (ids []upload.ID) {
	for _, d := range p.Differences {
		if d.Kind == kind && d.Provider == provider {
			ids = append(ids, d.UploadID)
		}
	}
	return ids
}

// What another installation, or nobody who says so, has stored in the account stays, whatever no row names.
func TestReconcileTouchesNothingOfAnotherInstallation(t *testing.T) {
	in := install(t, surroundings(t))
	for _, name := range []string{"uploadcare", "cloudinary"} {
		for _, whose := range []string{"slipway-0123456789ab", in.base.Installation.ID + "x", "x" + in.base.Installation.ID, "holidays"} {
			a := providertest.Store(t, in.providers[name], whose, upload.NewID())
			wantPlan(t, "with an asset of "+whose, in.reconcile(t, 0, true))
			if !in.has(t, name, a) {
				t.Errorf("%s's asset at %s was deleted", whose, name)
			}
		}
	}
}

// Files come, are delivered and deleted while everything is compared again and again, and mended with a grace that
// is as short as a file takes to come in. Without any, only what is coming in seems to be left behind.
func TestReconcileFindsNothingWhileFilesComeAndGo(t *testing.T) {
	in := install(t, surroundings(t))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, name := range []string{"uploadcare", "cloudinary"} {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := in.send(t, name)
				if n%3 == 0 {
					in.await(t, id, upload.Completed)
				}
				if n%3 < 2 { // what is delivered, and what is on its way
					in.delete(t, id)
				}
			}
		})
	}
	runs, compared := 0, 0
	for ; ctx.Err() == nil; runs++ {
		apply := runs%2 == 0
		grace := map[bool]time.Duration{true: 2 * time.Second, false: 0}[apply]
		plan := in.reconcile(t, grace, apply)
		compared += plan.Compared.Stored + plan.Compared.Uploads + plan.Compared.Assets["uploadcare"] + plan.Compared.Assets["cloudinary"]
		for _, d := range plan.Differences {
			if apply || d.Kind != doctor.StagedUnneeded {
				t.Errorf("found under traffic: %+v", d)
			}
		}
	}
	wg.Wait()
	t.Logf("%d runs compared %d rows and assets", runs, compared)
	if runs < 3 || compared == 0 {
		t.Errorf("%d runs compared %d rows and assets", runs, compared)
	}
}

func (in *running) delete(t *testing.T, id upload.ID) {
	t.Helper()
	tx, err := in.base.Pool.Begin(t.Context())
	if err == nil {
		_, err = postgres.DeleteUpload(t.Context(), tx, in.base.Queue, "ann", id)
	}
	if err == nil {
		err = tx.Commit(t.Context())
	}
	if err != nil {
		t.Error(err)
	}
}

func TestReconcileSaysWhatCouldNotBeAsked(t *testing.T) {
	in := install(t, surroundings(t))
	in.delivered(t, "cloudinary")
	in.config.Uploadcare.RESTBase = "http://127.0.0.1:1"
	plan, err := doctor.Reconcile(t.Context(), doctor.ReconcileOptions{Config: in.config, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Unanswered) != 1 || plan.Unanswered[0].Part != "uploadcare" || plan.Compared.Assets["cloudinary"] != 1 || len(plan.Differences) > 0 {
		t.Errorf("the plan is %+v", plan)
	}
}

func TestReconcileRefusesACopyAndForeignStaging(t *testing.T) {
	in := install(t, surroundings(t))
	reconcile := func() error {
		_, err := doctor.Reconcile(t.Context(), doctor.ReconcileOptions{Config: in.config, Log: slog.New(slog.DiscardHandler)})
		return err
	}
	in.config.Staging.Dir = filepath.Join(t.TempDir(), "not there")
	if err := reconcile(); err == nil || !strings.Contains(err.Error(), "STAGING_DIR") {
		t.Errorf("without staging: %v", err)
	}
	in.config.Staging.Dir = t.TempDir()
	if err := reconcile(); !errors.Is(err, postgres.ErrOtherStaging) {
		t.Errorf("with another folder: %v", err)
	}
	in.config.Staging.Dir = in.env["STAGING_DIR"]
	in.exec(t, `UPDATE slipway.installation SET database_name = 'the original'`)
	if err := reconcile(); !errors.Is(err, postgres.ErrCopy) {
		t.Errorf("on a copy: %v", err)
	}
}
