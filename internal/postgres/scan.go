package postgres

import (
	"context"
	"fmt"

	"slipway/internal/upload"
)

// Scanned tells whether a scanner has let the upload's file pass.
func Scanned(ctx context.Context, db DB, id upload.ID) (scanned bool, err error) {
	err = db.QueryRow(ctx, `
		SELECT scanned_at IS NOT NULL
		FROM slipway.uploads
		WHERE id = @id`, args{"id": id}).Scan(&scanned)
	if err != nil {
		return false, fmt.Errorf("read whether the file was scanned: %w", err)
	}
	return scanned, nil
}

// PassScan writes down that a scanner has let the file pass, for whoever pushes it after this.
func PassScan(ctx context.Context, db DB, u upload.Upload) error {
	return fence(ctx, db, u, upload.Pushing, `scanned_at = now()`, nil)
}
