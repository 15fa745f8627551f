package postgres_test

import (
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"slipway/internal/guides"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/upload"
)

// mends are the statements in Migrate's refusal.
func mends(err error) []string {
	var all []string
	for line := range strings.Lines(errorText(err)) {
		if _, mend, ok := strings.Cut(line, "mend it with: "); ok {
			all = append(all, strings.TrimSpace(mend))
		}
	}
	return all
}

func TestGuideTableThatDoesNotFit(t *testing.T) {
	tests := map[string]struct {
		change string // to the guide's own tables, which hold a row
		want   string // in the refusal
	}{
		"a foreign NOT NULL column": {
			`ALTER TABLE uploadcare_files ADD COLUMN "Project" text NOT NULL DEFAULT 'x'; ALTER TABLE uploadcare_files ALTER COLUMN "Project" DROP DEFAULT`,
			`ALTER TABLE public.uploadcare_files ALTER COLUMN "Project" DROP NOT NULL`,
		},
		"a column of ours that must not be NULL and may be": {
			`ALTER TABLE cloudinary_files ADD COLUMN width integer NOT NULL DEFAULT 1; ALTER TABLE cloudinary_files ALTER COLUMN width DROP DEFAULT`,
			`column width is NOT NULL`,
		},
		"a wrong type":                      {`ALTER TABLE uploadcare_files ALTER COLUMN user_id TYPE integer USING 7`, `column user_id is integer, not text`},
		"a wrong type of ours":              {`ALTER TABLE uploadcare_files ADD COLUMN size text DEFAULT NULL`, `column size is text, not bigint`},
		"a type from which no cast leads":   {`ALTER TABLE cloudinary_files ADD COLUMN tags jsonb`, `RENAME COLUMN tags TO tags_before`},
		"an id of another kind":             {`ALTER TABLE uploadcare_files DROP COLUMN id, ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid()`, `column id is uuid`},
		"a required time of another kind":   {`ALTER TABLE uploadcare_files DROP COLUMN upload_timestamp, ADD COLUMN upload_timestamp boolean NOT NULL DEFAULT true; ALTER TABLE uploadcare_files ALTER COLUMN upload_timestamp DROP DEFAULT`, `column upload_timestamp is boolean`},
		"a time without a zone":             {`ALTER TABLE uploadcare_files ALTER COLUMN upload_timestamp TYPE timestamp`, `timestamp without time zone`},
		"a varchar that is too short":       {`ALTER TABLE uploadcare_files ALTER COLUMN file_url TYPE varchar(50)`, `column file_url holds 50 characters`},
		"a key that is not unique":          {`ALTER TABLE uploadcare_files DROP CONSTRAINT uploadcare_files_file_id_key`, `ADD UNIQUE (file_id)`},
		"a key that is unique where":        {`ALTER TABLE cloudinary_files DROP CONSTRAINT cloudinary_files_public_id_key; CREATE UNIQUE INDEX ON cloudinary_files (public_id) WHERE user_id = 'x'`, `ADD UNIQUE (public_id)`},
		"a key that is unique with another": {`ALTER TABLE cloudinary_files DROP CONSTRAINT cloudinary_files_public_id_key; CREATE UNIQUE INDEX ON cloudinary_files (public_id, user_id)`, `ADD UNIQUE (public_id)`},
		"a missing id":                      {`ALTER TABLE uploadcare_files DROP COLUMN id`, `column id is missing`},
		"a missing key":                     {`ALTER TABLE uploadcare_files DROP COLUMN file_id`, `column file_id is missing`},
		"a missing column":                  {`ALTER TABLE cloudinary_files DROP COLUMN media_url`, `column media_url is missing`},
		"a missing time":                    {`ALTER TABLE uploadcare_files DROP COLUMN upload_timestamp`, `column upload_timestamp is missing`},
		"an id that nothing fills":          {`ALTER TABLE uploadcare_files ALTER COLUMN id DROP DEFAULT`, `START WITH 2`},
		"an id that may even be NULL":       {`ALTER TABLE uploadcare_files DROP CONSTRAINT uploadcare_files_pkey; ALTER TABLE uploadcare_files ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id DROP NOT NULL`, `START WITH 2`},
		"a view":                            {`ALTER TABLE uploadcare_files RENAME TO files; CREATE VIEW uploadcare_files AS SELECT * FROM files`, `ALTER VIEW public.uploadcare_files RENAME TO uploadcare_files_before`},
		"two faults at once are both named": {`ALTER TABLE uploadcare_files DROP COLUMN file_url; ALTER TABLE cloudinary_files DROP COLUMN user_id`, `column user_id is missing`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := postgres.Options{URL: postgrestest.Empty(t)}
			b := benchAt(t, o)
			b.exec(t, guides.UploadcareTable)
			b.exec(t, guides.CloudinaryTable)
			b.exec(t, guides.UploadcareInsert, "old", "https://ucarecdn.com/old/", "user_123")
			b.exec(t, guides.CloudinaryInsert, "old", "https://res.cloudinary.com/old", "image", "user_123")
			b.exec(t, tt.change)

			err := migrate(t.Context(), o.URL)
			if !strings.Contains(errorText(err), tt.want) {
				t.Fatalf("Migrate = %v, want a refusal with %q", err, tt.want)
			}
			if one[bool](t, b.Pool, `SELECT to_regnamespace('slipway') IS NOT NULL`) {
				t.Error("something was changed before the refusal")
			}
			for _, mend := range mends(err) {
				b.exec(t, mend)
			}
			if err := migrate(t.Context(), o.URL); err != nil {
				t.Fatalf("after %q: %v", mends(err), err)
			}
			completes(t, b)
		})
	}
}

func TestGuideTableThatFits(t *testing.T) {
	tests := map[string]string{
		"with wider numbers and shorter texts":  `ALTER TABLE uploadcare_files ALTER COLUMN id TYPE bigint, ALTER COLUMN file_url TYPE varchar(255), ALTER COLUMN file_id TYPE varchar`,
		"with columns of ours, required":        `ALTER TABLE uploadcare_files ADD COLUMN size bigint NOT NULL, ADD COLUMN file_name text NOT NULL, ADD COLUMN content_type varchar(255) NOT NULL`,
		"with a required time":                  `ALTER TABLE uploadcare_files ALTER COLUMN upload_timestamp DROP DEFAULT, ALTER COLUMN upload_timestamp SET NOT NULL`,
		"with foreign columns that have values": `ALTER TABLE uploadcare_files ADD COLUMN a int NOT NULL DEFAULT 1, ADD COLUMN b int NOT NULL GENERATED ALWAYS AS IDENTITY, ADD COLUMN c text`,
		"with an identity":                      `ALTER TABLE uploadcare_files ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY`,
		"after a column was dropped":            `ALTER TABLE uploadcare_files ADD COLUMN gone int NOT NULL; ALTER TABLE uploadcare_files DROP COLUMN gone`,
		"keyed by the provider's id":            `ALTER TABLE uploadcare_files DROP CONSTRAINT uploadcare_files_pkey, DROP CONSTRAINT uploadcare_files_file_id_key, ADD PRIMARY KEY (file_id)`,
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := postgres.Options{URL: postgrestest.Empty(t)}
			b := benchAt(t, o)
			b.exec(t, guides.UploadcareTable)
			b.exec(t, change)
			if err := migrate(t.Context(), o.URL); err != nil {
				t.Fatal(err)
			}
			completes(t, b)
		})
	}
}

// completes shows that both guide tables take the rows of completed uploads.
func completes(t *testing.T, b bench) {
	t.Helper()
	for _, provider := range []string{"uploadcare", "cloudinary"} {
		u := staged("user_123")
		u.Provider = provider
		u = b.taken(t, u)
		b.tx(t, func(tx pgx.Tx) error {
			return postgres.Complete(t.Context(), tx, u, upload.Asset{ID: "asset", URL: "https://cdn.test/asset/", ResourceType: upload.Video, Size: u.Size}, 0)
		})
		if _, err := postgres.GetFile(t.Context(), b.Pool, "user_123", u.ID); err != nil {
			t.Errorf("the file of %s: %v", provider, err)
		}
	}
}

func TestGuideTableOfAnother(t *testing.T) {
	address := ownedBy(t, "CREATEROLE")
	super, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	super.User = url.User("app")
	b := benchAt(t, postgres.Options{URL: super.String()})
	b.exec(t, guides.UploadcareTable)

	o := postgres.Options{URL: address}
	err = postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler))
	if !strings.Contains(errorText(err), "belongs to app") {
		t.Fatalf("Migrate = %v, want a refusal", err)
	}
	if one[bool](t, b.Pool, `SELECT to_regnamespace('slipway') IS NOT NULL`) {
		t.Error("something was changed before the refusal")
	}
	for _, mend := range mends(err) {
		b.exec(t, mend)
	}
	if err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	completes(t, benchAt(t, o))
}

func TestGuideTableForcedOnItsOwner(t *testing.T) {
	for name, attributes := range owners {
		t.Run(name, func(t *testing.T) {
			o := postgres.Options{URL: ownedBy(t, attributes)}
			b := benchAt(t, o)
			b.exec(t, guides.UploadcareTable)
			b.exec(t, `ALTER TABLE uploadcare_files ENABLE ROW LEVEL SECURITY`)
			b.exec(t, `ALTER TABLE uploadcare_files FORCE ROW LEVEL SECURITY`)
			err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler))
			if bypasses := strings.Contains(attributes, "BYPASSRLS"); bypasses != (err == nil) {
				t.Fatalf("Migrate = %v as %s", err, attributes)
			}
			for _, mend := range mends(err) {
				b.exec(t, mend)
			}
			if err := postgres.Migrate(t.Context(), o, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			completes(t, b)
		})
	}
}

func TestGuideRowThatIsThere(t *testing.T) {
	tests := map[string]struct {
		owner string
		found bool
	}{
		"of the same user becomes the upload's": {"user_123", true},
		"of another user stays his":             {"somebody else", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.exec(t, guides.UploadcareInsert, "asset", "https://ucarecdn.com/asset/", tt.owner)
			u := b.taken(t, staged("user_123"))
			b.tx(t, func(tx pgx.Tx) error {
				return postgres.Complete(t.Context(), tx, u, upload.Asset{ID: "asset", URL: "https://cdn.test/asset/", Size: u.Size}, 0)
			})
			_, err := postgres.GetFile(t.Context(), b.Pool, "user_123", u.ID)
			if found := err == nil; found != tt.found {
				t.Errorf("found = %t (%v), want %t", found, err, tt.found)
			}
			if got := one[string](t, b.Pool, `SELECT user_id FROM public.uploadcare_files`); got != tt.owner {
				t.Errorf("the row is %s's, was %s's", got, tt.owner)
			}
			if got := b.read(t, u.ID); got.Status != upload.Completed {
				t.Errorf("status = %s", got.Status)
			}
		})
	}
}
