package ingest

import (
	"cmp"
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

// Limits are what may come in, as clients are told.
type Limits struct {
	MaxBytes        int64                     `json:"max_bytes"` // in one file
	Types           []string                  `json:"types"`     // null: every type
	Sizes           []MaxSize                 `json:"sizes"`     // of files of some types, less than MaxBytes
	DefaultProvider string                    `json:"default_provider"`
	Providers       map[string]ProviderLimits `json:"providers"`
	FileName        textLimits                `json:"file_name"`
	Tags            textLimits                `json:"tags"`
	Metadata        textLimits                `json:"metadata"`
	Imports         bool                      `json:"imports"` // files are fetched from the web, too
}

// ProviderLimits are what may come in for one provider, beside what holds for all.
type ProviderLimits struct {
	Types    []string                       `json:"types"`
	Sizes    []MaxSize                      `json:"sizes"`
	MaxBytes map[upload.ResourceType]*int64 `json:"max_bytes"` // that the account takes in one file; null: none is known
}

// textLimits are how many of a kind there may be, and how long each.
type textLimits struct {
	Max           int `json:"max,omitempty"`
	MaxBytes      int `json:"max_bytes,omitempty"`
	MaxCharacters int `json:"max_characters,omitempty"`
}

// Limits returns what may come in, in files of at most maxBytes, to the provider that is named or to all.
func (in *Ingest) Limits(ctx context.Context, maxBytes int64, provider string) (Limits, error) {
	l := Limits{
		MaxBytes: maxBytes, Types: in.Rules.Types, Sizes: listed(in.Rules.Sizes),
		DefaultProvider: cmp.Or(provider, in.DefaultProvider), Providers: map[string]ProviderLimits{},
		FileName: textLimits{MaxBytes: maxNameBytes},
		Tags:     textLimits{Max: maxTags, MaxCharacters: maxTagChars},
		Metadata: textLimits{Max: maxMetadata, MaxCharacters: maxValueChars},
		Imports:  in.Imports != nil,
	}
	for _, name := range in.Providers {
		if provider != "" && name != provider {
			continue
		}
		rules := in.ProviderRules[name]
		p := ProviderLimits{Types: rules.Types, Sizes: listed(rules.Sizes), MaxBytes: map[upload.ResourceType]*int64{}}
		for _, rt := range []upload.ResourceType{upload.Image, upload.Video, upload.Raw} {
			most, err := in.limits.of(ctx, in.Pool, name, rt, true)
			if err != nil {
				return l, unavailable(err)
			}
			p.MaxBytes[rt] = nil
			if most > 0 {
				p.MaxBytes[rt] = &most
			}
		}
		l.Providers[name] = p
	}
	return l, nil
}

// listed is a list that JSON does not show as null.
func listed(sizes []MaxSize) []MaxSize { return append([]MaxSize{}, sizes...) }
