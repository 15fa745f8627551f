package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func TestInstallationKnowsItsPlace(t *testing.T) {
	original := postgrestest.New(t)
	if err := migrate(t.Context(), original); err != nil { // the template's place is the template's
		t.Fatal(err)
	}
	b := benchAt(t, postgres.Options{URL: original})
	if _, err := postgres.ReadInstallation(t.Context(), b.Pool, original); !errors.Is(err, postgres.ErrCopy) {
		t.Fatalf("a copy of the template: %v, want ErrCopy", err)
	}
	read := func(url string) (postgres.Installation, error) {
		return postgres.ReadInstallation(t.Context(), b.Pool, url)
	}

	if err := postgres.Rehome(t.Context(), b.Pool, original, false); err != nil {
		t.Fatal(err)
	}
	first, err := read(original)
	if err != nil || !strings.HasPrefix(first.ID, "slipway-") || first.Host != "local" {
		t.Fatalf("installation = %+v, %v", first, err)
	}
	if err := postgres.MatchStaging(t.Context(), b.Pool, "store"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.MatchStaging(t.Context(), b.Pool, "store"); err != nil {
		t.Errorf("the same store: %v", err)
	}
	if err := postgres.MatchStaging(t.Context(), b.Pool, "other"); !errors.Is(err, postgres.ErrOtherStaging) {
		t.Errorf("another store: %v", err)
	}

	const branch = "postgres://o:c4n4ry@ep-branch.aws.neon.tech/neondb"
	if _, err := read(branch); !errors.Is(err, postgres.ErrCopy) || strings.Contains(err.Error(), "c4n4ry") {
		t.Errorf("on a branch: %v", err)
	}
	if err := postgres.Rehome(t.Context(), b.Pool, branch, true); err != nil {
		t.Fatal(err)
	}
	copied, err := read("postgres://o:p@ep-branch-pooler.aws.neon.tech/neondb")
	if err != nil || copied.ID == first.ID || copied.Host != "ep-branch.aws.neon.tech" || copied.Database != "neondb" {
		t.Errorf("the copy = %+v, %v", copied, err)
	}
	if err := postgres.MatchStaging(t.Context(), b.Pool, "other"); err != nil {
		t.Errorf("the copy's own store: %v", err)
	}
	if err := postgres.Rehome(t.Context(), b.Pool, original, false); err != nil {
		t.Fatal(err)
	}
	if moved, err := read(original); err != nil || moved.ID != copied.ID {
		t.Errorf("moved = %+v, %v, want the same id", moved, err)
	}

	b.exec(t, `DELETE FROM slipway.installation`)
	if _, err := read(original); !errors.Is(err, postgres.ErrSchemaOld) {
		t.Errorf("without an installation: %v", err)
	}
	if err := postgres.Rehome(t.Context(), b.Pool, original, false); !errors.Is(err, postgres.ErrSchemaOld) {
		t.Errorf("without an installation: %v", err)
	}
}
