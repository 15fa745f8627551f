package doctor

import (
	"context"
	"errors"
	"fmt"
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
		refused *provider.Error
		request *url.Error
	)
	network := networkReason(err)
	switch {
	case errors.As(err, &pg):
		return errors.New(pg.Message)
	case errors.As(err, &refused) && refused.Reason() != "":
		said := errors.New(strings.TrimSuffix(refused.Reason(), "."))
		if refused.Status == 0 && network != nil {
			return fmt.Errorf("%w (%w)", said, network)
		}
		return said
	case network != nil:
		return network
	case errors.As(err, &request):
		return request.Err
	}
	return err
}

// networkReason is why nobody answered, or nil.
func networkReason(err error) error {
	var (
		unknown *net.DNSError
		network *net.OpError
		slow    net.Error
	)
	switch {
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return errors.New("no host has the name " + unknown.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &slow) && slow.Timeout():
		return errors.New("no answer came in time")
	case errors.As(err, &network):
		return network.Err
	}
	return nil
}
