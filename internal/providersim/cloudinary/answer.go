package cloudinary

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// refusal is an answer that is not 200: {"error":{"message":…}}, the message in X-Cld-Error
// too (Upload API reference, "Error handling").
type refusal struct {
	status  int
	message string
}

func (e *refusal) Error() string { return e.message }

func fail(status int, message string) error { return &refusal{status, message} }

func missing(param string) error {
	return fail(http.StatusBadRequest, "Missing required parameter - "+param)
}

func notFound(publicID string) error {
	return fail(http.StatusNotFound, "Resource not found - "+publicID)
}

func writeError(w http.ResponseWriter, err error) {
	var no *refusal
	if !errors.As(err, &no) {
		slog.Error("cloudinary simulator", "err", err)
		no = &refusal{http.StatusInternalServerError, "General Error"}
	}
	if no.status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("X-Cld-Error", oneLine.Replace(no.message))
	writeJSON(w, no.status, map[string]any{"error": map[string]string{"message": no.message}})
}

var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		slog.Debug("cloudinary simulator: answer not delivered", "err", err)
	}
}
