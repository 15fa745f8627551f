package push

import (
	"context"
	"fmt"
	"time"

	"slipway/internal/postgres"
	"slipway/internal/staging"
	"slipway/internal/upload"
)

// Scanner looks into files before anything of them leaves staging. It is safe for concurrent use.
type Scanner interface {
	// Scan reads as much of u's file as it needs, and returns what was found wrong with it, in a few words for
	// the owner; "" is nothing. An error says nothing about the file, which waits and is scanned again. A file
	// that passed is not scanned another time, whoever goes on with it. Scan ends soon after ctx does.
	Scan(ctx context.Context, u upload.Upload, file staging.Reader) (finding string, err error)
}

// findingError is what a scanner has found.
type findingError struct{ finding string }

func (e *findingError) Error() string { return "the scanner found: " + e.finding }

// scanError means that the scanner could not tell.
type scanError struct{ error }

func (e *scanError) Unwrap() error { return e.error }

// How long a scan may take: this, and what the file takes at the slowest.
const (
	scanTimeout = 5 * time.Minute
	slowestScan = 1 << 20 // bytes per second
)

// scan lets a file pass that the scanner finds nothing in, once for all attempts.
func (a *attempt) scan(ctx context.Context, file staging.Reader) error {
	if a.Scanner == nil {
		return nil
	}
	scanned, err := postgres.Scanned(ctx, a.pool, a.u.ID)
	if err != nil || scanned {
		return err
	}
	step, end := during(ctx, scanTimeout+time.Duration(file.Size()/slowestScan)*time.Second)
	defer end()
	finding, err := a.Scanner.Scan(step, *a.u, file)
	switch {
	case err != nil:
		return &scanError{fmt.Errorf("scan: %w", err)}
	case finding != "":
		return &findingError{finding}
	}
	return a.write(ctx, func(ctx context.Context) error { return postgres.PassScan(ctx, a.pool, *a.u) })
}

// found is what the owner is told of a finding, whose words come from outside.
func found(finding string) upload.Error {
	const most = 200
	words := []rune(finding)
	if len(words) > most {
		words = append(words[:most], '…')
	}
	return upload.Error{Code: upload.ContentRefused, FixableBy: upload.ByYou,
		Message: fmt.Sprintf("The file was refused before it left for its provider: %q was found in it.", string(words))}
}
