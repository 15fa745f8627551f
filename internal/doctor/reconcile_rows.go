package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"slipway/internal/postgres"
	"slipway/internal/staging"
	"slipway/internal/sweep"
	"slipway/internal/upload"
)

const (
	rowsAtOnce    = 1000
	maxGuideFault = 10_000 // in one run, for each table
)

// staging compares rows with files, both ways.
func (r *reconciler) staging(ctx context.Context) error {
	err := sweep.Unneeded(ctx, r.base.Pool, r.base.Staging, r.Grace, func(left []staging.Entry) error { return r.unneeded(ctx, left) })
	if err != nil {
		return err
	}
	err = sweep.InTrash(ctx, r.base.Pool, r.base.Staging, func(needed, _ []staging.Entry) error { return r.inTrash(ctx, needed) })
	if err != nil {
		return err
	}
	for after := upload.ID(""); ; {
		rows, err := postgres.StagedUploads(ctx, r.base.Pool, after, rowsAtOnce)
		if err != nil || len(rows) == 0 {
			return err
		}
		r.plan.Compared.Uploads += len(rows)
		if err := r.missing(ctx, rows); err != nil {
			return err
		}
		after = rows[len(rows)-1].ID
	}
}

func (r *reconciler) unneeded(ctx context.Context, left []staging.Entry) error {
	var moved []staging.Entry
	if r.Apply {
		var err error
		if moved, err = sweep.Trash(ctx, r.base.Pool, r.base.Staging, left); err != nil {
			return err
		}
	}
	for _, e := range left {
		done := slices.ContainsFunc(moved, func(m staging.Entry) bool { return m.ID == e.ID })
		if r.Apply && !done {
			continue // it has changed meanwhile
		}
		r.found(Difference{Kind: StagedUnneeded, UploadID: e.ID, Bytes: e.Size, Since: e.Changed, Done: done,
			Text: "staging has a file that no upload needs", Action: "move it to the trash"})
	}
	return nil
}

func (r *reconciler) inTrash(ctx context.Context, needed []staging.Entry) error {
	for _, e := range needed {
		d := Difference{Kind: StagedInTrash, UploadID: e.ID, Bytes: e.Size, Since: e.Changed,
			Text: "an upload's file is in the trash", Action: "bring it back"}
		if r.Apply {
			var err error
			if d.Done, err = r.base.Staging.Restore(ctx, e.ID); err != nil {
				return err
			}
		}
		r.found(d)
	}
	return nil
}

// missing finds rows whose file is not there. A row lets its file go before it is removed: one that needs it after
// it was not found has lost it.
func (r *reconciler) missing(ctx context.Context, rows []postgres.StagedUpload) error {
	var lost []upload.ID
	for _, row := range rows {
		f, err := r.base.Staging.Open(ctx, row.ID, row.Segments...)
		switch {
		case errors.Is(err, staging.ErrMissing):
			lost = append(lost, row.ID)
		case err != nil:
			return err
		default:
			if err := f.Close(); err != nil {
				return fmt.Errorf("close staged %s: %w", row.ID, err)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	still, err := postgres.StillStaged(ctx, r.base.Pool, lost)
	if err != nil {
		return err
	}
	trashed := map[upload.ID]bool{} // told already, or moved there since
	err = r.base.Staging.List(ctx, staging.InTrash, func(page []staging.Entry) error {
		for _, e := range page {
			trashed[e.ID] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	still = slices.DeleteFunc(still, func(s postgres.StagedUpload) bool { return trashed[s.ID] })
	return r.lost(ctx, still)
}

func (r *reconciler) lost(ctx context.Context, rows []postgres.StagedUpload) error {
	var failed, forgotten []upload.ID
	for _, row := range rows {
		if row.Status == upload.Failed {
			failed = append(failed, row.ID)
		}
	}
	if r.Apply && len(failed) > 0 {
		var err error
		if forgotten, err = postgres.ForgetStaged(ctx, r.base.Pool, failed); err != nil {
			return err
		}
	}
	for _, row := range rows {
		d := Difference{Kind: StagedMissing, UploadID: row.ID, Bytes: row.Size, Done: slices.Contains(forgotten, row.ID)}
		if row.Status == upload.Failed {
			d.Text, d.Action = "the file of a failed upload is gone, so it cannot be retried", "say so in its row"
		} else {
			d.Text = fmt.Sprintf("the file of an upload that is %s is not in staging: restore it from a backup and delivery goes on, or cancel the upload", row.Status)
		}
		r.found(d)
	}
	return nil
}

// guideRows compares a guide's table with the uploads that its rows are of.
func (r *reconciler) guideRows(ctx context.Context, provider string) error {
	faults, err := postgres.GuideFaultsOf(ctx, r.base.Pool, provider, maxGuideFault)
	if err != nil {
		return err
	}
	for _, f := range faults {
		d := Difference{UploadID: f.Upload, Provider: provider, AssetID: f.Asset}
		table := provider + "_files"
		switch f.Fault {
		case postgres.GuideDiffers:
			d.Kind, d.Action = GuideRowDiffers, "have the row say what the upload does"
			d.Text = "the row in " + table + " names another asset or address than its upload"
			if r.Apply {
				if d.Done, err = postgres.MendGuideRow(ctx, r.base.Pool, provider, f.Upload); err != nil {
					return err
				}
			}
		case postgres.GuideForeign:
			d.Kind, d.Text = GuideRowForeign, "the row in "+table+" is another user's than its upload"
		case postgres.GuideMissing:
			d.Kind, d.Text = GuideRowMissing, "there is no row in "+table+" for a completed upload; if your app has removed it, delete the upload, too"
		case postgres.GuideDangling:
			d.Kind, d.Text = GuideRowDangling, "the row in "+table+" names an upload that has no file"
		}
		r.found(d)
	}
	return nil
}
