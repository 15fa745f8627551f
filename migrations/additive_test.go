package migrations_test

import (
	"io/fs"
	"regexp"
	"testing"

	"slipway/migrations"
)

// takesAway is what the release before could not bear, which serves beside this one while it is upgraded, and after
// who goes back to it.
var takesAway = regexp.MustCompile(`(?i)\b(DROP TABLE|DROP COLUMN|DROP SCHEMA|DROP VIEW|RENAME|ALTER COLUMN \w+ (SET DATA )?TYPE)\b|ADD COLUMN (IF NOT EXISTS )?\w+ \w+ NOT NULL(;|,|\s+CHECK|\s+REFERENCES)`)

func TestNoMigrationTakesAnythingAway(t *testing.T) {
	files, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no migrations: %v", err)
	}
	for _, file := range files {
		text, err := fs.ReadFile(migrations.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range takesAway.FindAllString(string(text), -1) {
			t.Errorf("%s has %q, which the release before cannot bear; do it one release later", file, statement)
		}
	}
}
