package client

import (
	"errors"
	"net/http"

	"slipway/internal/upload"
)

// doubt is whether one of the tries of a call may have been carried out although nobody has said so.
type doubt struct {
	name string
	open bool
}

// key names what the tries are to do. As long as none can have been carried out, each has a key of its own: the
// service may still hold that of one which it has not noticed to be dead.
func (d *doubt) key() string {
	if !d.open {
		d.name = string(upload.NewID())
	}
	return `"` + d.name + `"`
}

// learn takes note of how a try ended, and says in err what is still not known.
func (d *doubt) learn(err error) {
	var silent *UnreachableError
	var refused *Error
	switch {
	case errors.As(err, &silent):
		d.open = d.open || silent.Unknown
		silent.Unknown = d.open
	case errors.As(err, &refused):
		d.open = d.open && !refused.settles() || refused.Retryable && refused.UploadID != ""
		refused.Unknown = d.open
	}
}

// settles tells whether the service, before it refused a request, has looked whether it was carried out before.
func (e *Error) settles() bool {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return e.Code != ""
}
