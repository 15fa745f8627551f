package postgres

import (
	"context"
	"fmt"
	"time"
)

// RequestRates keeps when the requests granted to each user are used up, as a GCRAStoreCtx of the module
// throttled: keys are users, and all processes go by the database's clock.
type RequestRates struct{ DB DB }

// GetWithTime returns a user's value, -1 for none, and the time.
func (r RequestRates) GetWithTime(ctx context.Context, user string) (value int64, now time.Time, err error) {
	err = r.DB.QueryRow(ctx, `
		SELECT coalesce((SELECT arrival FROM slipway.request_rates WHERE user_id = @user AND expires_at > clock_timestamp()), -1), clock_timestamp()`,
		args{"user": user}).Scan(&value, &now)
	if err != nil {
		return 0, now, fmt.Errorf("read the rate: %w", err)
	}
	return value, now, nil
}

// SetIfNotExistsWithTTL writes the first value of a user, and tells whether it was the first.
func (r RequestRates) SetIfNotExistsWithTTL(ctx context.Context, user string, value int64, ttl time.Duration) (bool, error) {
	return r.change(ctx, `
		INSERT INTO slipway.request_rates AS r (user_id, arrival, expires_at)
		VALUES (@user, @value, clock_timestamp() + @ttl::interval)
		ON CONFLICT (user_id) DO UPDATE
		SET arrival = excluded.arrival, expires_at = excluded.expires_at
		WHERE r.expires_at <= clock_timestamp()`, args{"user": user, "value": value, "ttl": ttl})
}

// CompareAndSwapWithTTL replaces a user's value, and tells whether it was still the old one.
func (r RequestRates) CompareAndSwapWithTTL(ctx context.Context, user string, old, value int64, ttl time.Duration) (bool, error) {
	return r.change(ctx, `
		UPDATE slipway.request_rates
		SET arrival = @value, expires_at = clock_timestamp() + @ttl::interval
		WHERE user_id = @user AND arrival = @old`, args{"user": user, "old": old, "value": value, "ttl": ttl})
}

func (r RequestRates) change(ctx context.Context, statement string, a args) (bool, error) {
	tag, err := r.DB.Exec(ctx, statement, a)
	if err != nil {
		return false, fmt.Errorf("write the rate: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}
