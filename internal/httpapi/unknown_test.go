package httpapi

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

func TestACommitWithoutAnAnswerNamesTheUploadThatMayBeThere(t *testing.T) {
	id := upload.NewID()
	lost := &upload.Error{Code: upload.Unavailable, UploadID: id, Cause: fmt.Errorf("%w: %w", postgres.ErrOutcomeUnknown, io.EOF)}
	var told *upload.Error
	if err := databaseError(lost, noUpload); !errors.As(err, &told) || told.UploadID != id {
		t.Errorf("the client is told %v, without the id to ask for before it sends the file again", err)
	}
}
