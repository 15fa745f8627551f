package doctor

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"slipway/internal/provider"
)

// reason is the part of an error that a person needs, without addresses that may hold keys.
func reason(err error) error {
	var (
		pg      *pgconn.PgError
		unknown *net.DNSError
		network *net.OpError
		request *url.Error
		refused *provider.Error
	)
	switch {
	case errors.As(err, &pg):
		return errors.New(pg.Message)
	case errors.As(err, &refused) && refused.Message != "":
		return errors.New(strings.TrimSuffix(refused.Message, "."))
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return errors.New("no host has the name " + unknown.Name)
	case errors.As(err, &network):
		return network.Err
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer came in time")
	case errors.As(err, &request):
		return request.Err
	}
	return err
}
