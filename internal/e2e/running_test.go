package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/guides"
	"slipway/internal/postgres/pgembed"
)

// nextRelease is these programs with one more migration.
func nextRelease(t *testing.T) (programs string) {
	t.Helper()
	const added = "-- +goose Up\n" + `
		SET LOCAL lock_timeout = '10s';
		CREATE TABLE slipway.of_the_next_release (id uuid REFERENCES slipway.uploads);
		ALTER TABLE slipway.uploads ADD COLUMN of_the_next_release text NOT NULL DEFAULT '';`
	dir := t.TempDir()
	source, err := filepath.Abs(filepath.Join(root, "migrations", "9000_next_release.sql"))
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "added.sql")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"added.sql": []byte(added), "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	programs = filepath.Join(dir, "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", programs+"/", "slipway/cmd/api", "slipway/cmd/worker", "slipway/cmd/slipway")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the next release: %v\n%s", err, out)
	}
	return programs
}

// ownDatabase is a database of an owner who may make roles, on a server of its own, where nothing of Slipway was.
func ownDatabase(t *testing.T) (url string, server *pgembed.Server) {
	t.Helper()
	p, _ := startPostgres(t)
	return ownedDatabase(t, p.server.TCPURL("slipway"), "files", "CREATEROLE"), p.server
}

// TestRunningOnOneMachine follows docs/running.md from the installation on to its end.
func TestRunningOnOneMachine(t *testing.T) {
	t.Parallel()
	next := nextRelease(t)
	m := newMachine(t)
	databaseURL, _ := ownDatabase(t)
	m.install(t, databaseURL)
	app := newGuideApp(t, databaseURL, m.env)
	wantRelease := func(release string) {
		t.Helper()
		for _, unit := range []string{"slipway-api", "slipway-worker"} {
			if got := m.runs(t, unit); got != release {
				t.Errorf("%s runs the release %s, want %s", unit, got, release)
			}
		}
	}
	delivers := func() {
		t.Helper()
		m.ready(t)
		for _, provider := range []string{"uploadcare", "cloudinary"} {
			id, sum := m.accept(t, provider, "film.mp4", mib)
			m.wantDelivered(t, id, sum)
		}
	}
	wantRelease("2026-11-22")
	delivers()

	// An upgrade in the middle of a push, one of whose parts does not get through before.
	m.slow(t, "uploadcare", "PUT", "partNumber=", 2, time.Hour)
	id, sum := m.accept(t, "uploadcare", "film.mp4", 20*mib)
	await(t, time.Minute, "the push to get on", func() bool { return m.upload(t, id).PushedBytes >= 2*partSize })
	acked := m.database(t).acked(t, id)
	m.builds(t, next)
	upgrading := blocksIn(section(t, "running.md", "Upgrading"), "bash")
	m.run(t, upgrading[0])
	wantRelease("2026-12-01")
	delivers()
	m.wantDelivered(t, id, sum)
	m.wantOnce(t, acked)
	m.database(t).wantOwners(t, id, 2, 0)

	// And back, with the schema of the next release, which the programs find newer than their own.
	var there bool
	m.database(t).row(t, `SELECT to_regclass('slipway.of_the_next_release') IS NOT NULL`, nil, &there)
	if !there {
		t.Error("the next release has not migrated")
	}
	m.run(t, upgrading[1])
	wantRelease("2026-11-22")
	delivers()
	m.run(t, "systemctl restart slipway-migrate") // as the next boot does
	delivers()

	// Instead of the worker, a timer.
	neon := section(t, "running.md", "Neon")
	m.addUnits(t, neon)
	m.stopUnit(t, "slipway-worker")
	id, sum = m.accept(t, "cloudinary", "film.mp4", mib)
	m.run(t, blocksIn(neon, "bash")...)
	if m.running["slipway-worker"] != nil {
		t.Error("the worker runs beside the timer")
	}
	m.wantDelivered(t, id, sum)

	m.uninstall(t, app)
}

// uninstall does as the page says, and looks at what is left: the guides' tables as they were, and their app.
func (m *machine) uninstall(t *testing.T, app *guideApp) {
	t.Helper()
	path := picture(t)
	app.saves(t, path)
	files, pictures := app.rows(t, guides.UploadcareSelect), app.rows(t, guides.CloudinarySelect)
	m.run(t, blocksIn(section(t, "running.md", "Uninstalling"), "bash")...)
	if len(m.running) > 0 {
		t.Errorf("%v still run", m.running)
	}
	for _, dir := range []string{"/opt/slipway", "/etc/slipway", "/var/lib/slipway", "/etc/systemd/system/slipway-.service.d"} {
		if _, err := os.Stat(m.path(dir)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	conn, err := pgx.Connect(t.Context(), m.env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var left []string
	err = conn.QueryRow(t.Context(), `
		SELECT coalesce(array_agg(name), '{}')
		FROM (
		    SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname = 'slipway'
		    UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname LIKE 'slipway\_%'
		    UNION ALL SELECT 'policy ' || polname || ' on ' || polrelid::regclass FROM pg_policy
		    UNION ALL SELECT 'row-level security of ' || relname FROM pg_class WHERE relrowsecurity
		    UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
		) found (name)`).Scan(&left)
	if err != nil || len(left) > 0 {
		t.Errorf("the database still has %q, %v", left, err)
	}
	if now := app.rows(t, guides.UploadcareSelect); !maps.Equal(now, files) {
		t.Errorf("the guide's SELECT finds %v, before %v", now, files)
	}
	if now := app.rows(t, guides.CloudinarySelect); !maps.Equal(now, pictures) {
		t.Errorf("the guide's SELECT finds %v, before %v", now, pictures)
	}
	fileID, publicID := app.saves(t, path)
	if _, ok := app.rows(t, guides.UploadcareSelect)[fileID]; !ok {
		t.Error("the guide's app does not find the file that it has saved")
	}
	if _, ok := app.rows(t, guides.CloudinarySelect)[publicID]; !ok {
		t.Error("the guide's app does not find the picture that it has saved")
	}
}
