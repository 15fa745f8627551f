package ingest

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
)

// limits remembers what the workers have learned of the accounts' plans.
type limits struct {
	mu    sync.Mutex
	read  time.Time
	known map[string]provider.Capabilities
}

// limitsFresh is how long a plan's limits are believed without asking again.
const limitsFresh = 10 * time.Second

// of is the most bytes a provider's account takes in one file, 0 when no limit is known. As long as
// the type is not, it is the largest limit of any type.
func (l *limits) of(ctx context.Context, pool *pgxpool.Pool, name string, rt upload.ResourceType, typeKnown bool) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil || time.Since(l.read) > limitsFresh {
		states, err := postgres.Providers(ctx, pool)
		if err != nil {
			return 0, err
		}
		l.known, l.read = map[string]provider.Capabilities{}, time.Now()
		for _, s := range states {
			l.known[s.Name] = s.Capabilities
		}
	}
	c := l.known[name]
	if typeKnown {
		return c.Limit(rt), nil
	}
	var most int64
	for _, rt := range []upload.ResourceType{upload.Image, upload.Video, upload.Raw} {
		n := c.Limit(rt)
		if n == 0 {
			return 0, nil
		}
		most = max(most, n)
	}
	return most, nil
}
