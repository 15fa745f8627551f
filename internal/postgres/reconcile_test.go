package postgres_test

import (
	"slices"
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// Which rows name an asset that says of itself that it was made of an upload.
func TestWhichRowsNameAnAsset(t *testing.T) {
	const (
		has      = `UPDATE slipway.uploads SET asset = '{"id":"asset"}', status = `
		deletion = `INSERT INTO slipway.file_deletions (id, user_id, provider, upload_id, job_id) VALUES (gen_random_uuid(), 'ann', 'uploadcare', $1, 1)`
	)
	tests := map[string]struct {
		change []string
		named  bool
		counts bool // as what the upload has
	}{
		"an upload on its way":                            {nil, true, false},
		"one that has failed and may be retried":          {[]string{`UPDATE slipway.uploads SET status = 'failed' WHERE id = $1`}, true, false},
		"one that is completed":                           {[]string{has + `'completed' WHERE id = $1`}, true, true},
		"one that is completed with another":              {[]string{`UPDATE slipway.uploads SET asset = '{"id":"other"}', status = 'completed' WHERE id = $1`}, false, false},
		"one that is being deleted":                       {[]string{has + `'deleting' WHERE id = $1`}, true, false},
		"one that is deleted":                             {[]string{`UPDATE slipway.uploads SET status = 'deleted' WHERE id = $1`}, false, false},
		"one that is canceled":                            {[]string{`UPDATE slipway.uploads SET status = 'canceled' WHERE id = $1`}, false, false},
		"one that is canceled and being cleared up after": {[]string{`UPDATE slipway.uploads SET status = 'canceled' WHERE id = $1`, deletion}, true, false},
		"one that has expired":                            {[]string{`UPDATE slipway.uploads SET status = 'expired' WHERE id = $1`}, false, false},
		"one of another provider":                         {[]string{`UPDATE slipway.uploads SET provider = 'cloudinary' WHERE id = $1`}, false, false},
		"a row of the guide's own app": {[]string{`UPDATE slipway.uploads SET status = 'deleted' WHERE id = $1`,
			`INSERT INTO public.uploadcare_files (file_id, file_url, user_id) SELECT 'asset', 'url', user_id FROM slipway.uploads WHERE id = $1`}, true, false},
		"another upload that claims it": {[]string{`UPDATE slipway.uploads SET status = 'deleted' WHERE id = $1`,
			`WITH other AS (
				INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, max_attempts)
				SELECT gen_random_uuid(), user_id, 'verifying', provider, 'x', 'x', 1 FROM slipway.uploads WHERE id = $1
				RETURNING id, user_id, provider)
			INSERT INTO slipway.direct_uploads (upload_id, user_id, provider, asset_id) SELECT id, user_id, provider, 'asset' FROM other`}, true, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			u := b.accepted(t, staged("ann"))
			for _, sql := range tt.change {
				b.exec(t, sql, u.ID)
			}
			got, err := postgres.NameAssets(t.Context(), b.Pool, "uploadcare", []string{"asset", "nobody's"}, []upload.ID{u.ID, ""})
			if err != nil || len(got) != 2 {
				t.Fatalf("names %+v, %v", got, err)
			}
			if got[0].Named != tt.named || slices.Equal(got[0].Uploads, []upload.ID{u.ID}) != tt.counts {
				t.Errorf("named is %t by %v, want %t", got[0].Named, got[0].Uploads, tt.named)
			}
			if got[1].Named || len(got[1].Uploads) > 0 {
				t.Errorf("what nobody has is named by %+v", got[1])
			}
		})
	}
}
