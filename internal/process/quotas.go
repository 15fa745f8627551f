package process

import (
	"log/slog"

	"slipway/internal/config"
	"slipway/internal/postgres"
	"slipway/internal/quota"
)

// Quotas are what users may use by the settings, and what there is room for in staging.
func Quotas(c *config.Config, b *Base, log *slog.Logger) *quota.Quotas {
	q := quota.New(b.Pool, limits(c.Quotas), log)
	q.Disk, q.Budget = b.Staging, c.Staging.Budget
	return q
}

// limits are the quotas that are set.
func limits(q config.Quotas) postgres.Limits {
	set := func(n int64) *int64 {
		if n == 0 {
			return nil
		}
		return &n
	}
	return postgres.Limits{
		StagedBytes: set(q.StagedBytes), StoredBytes: set(q.StoredBytes),
		Uploads: set(int64(q.Uploads)), Receiving: set(int64(q.Receiving)), Requests: set(int64(q.Requests)),
	}
}

// MaxBytes are the most that one file may have: what is set, as far as it can ever fit into staging.
func MaxBytes(c *config.Config, b *Base) (int64, error) {
	most := c.HTTP.MaxUploadBytes
	if budget := c.Staging.Budget; budget > 0 {
		most = min(most, budget)
	}
	disk, err := b.Staging.Capacity()
	if err != nil {
		return 0, err
	}
	return min(most, max(disk, 1)), nil
}
