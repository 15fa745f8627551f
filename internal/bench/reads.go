package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	fewRows  = 1_000
	someRows = 100_000

	deepest = 1000 // the page that is the furthest anybody turns
	// every second row is the reader's, the others are spread over many users
	otherUsers = 1000
)

// measureReads asks for the status of uploads, beside the same read without a token and without row-level
// security, and looks at how the time for a read grows with the number of rows.
func measureReads(ctx context.Context, s *stack, o options, r *report) error {
	api, err := s.startAPI(ctx)
	if err != nil {
		return err
	}
	plain, plainAddress, err := s.startYardstick(ctx, "read", "-database", s.env["DATABASE_URL"])
	if err != nil {
		return err
	}
	pool, err := s.database(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	var ids []upload.ID
	first := map[string]float64{}
	last := map[string]float64{}
	for _, rows := range []int{fewRows, min(someRows, o.rows), o.rows} {
		if ids, err = fill(ctx, pool, ids, rows); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "  %d rows\n", len(ids))
		if last, err = readTimes(ctx, s, o, ids); err != nil {
			return err
		}
		for what, p99 := range last {
			fmt.Fprintf(os.Stderr, "    %-13s %6.2f ms p99\n", what, p99)
		}
		if rows == fewRows {
			first = last
		}
	}
	polls := func(p *child, address string) func() (sample, error) {
		return func() (sample, error) {
			took, cpu, err := p.cpu(func() error { return poll(ctx, address, o, ids) })
			return perFile(o.polls, took, cpu), err
		}
	}
	ours, yardstick, err := byTurns(o.rounds, polls(api, s.address), polls(plain, plainAddress))
	if err != nil {
		return err
	}
	r.addRatio(fmt.Sprintf("GET /v1/uploads/{id}, %d clients", o.clients), "answers/s", ours.rate, yardstick.rate, none)
	r.addRatio("", "CPU-ms/answer without Postgres", ours.cpu, yardstick.cpu, none)
	for _, what := range []string{"status", "first page", "deepest page"} {
		r.addGrowth(what+", one client", "ms p99", last[what], first[what], 1.5)
	}
	r.note("GET: the yardstick is a net/http handler in a process of its own, without a token, with the same SELECT as the owner of the table.")
	r.note("status and pages: %d rows in the left column, %d in the right one; half of them are the reader's. The deepest page is the last, or the %dth.", o.rows, fewRows, deepest)
	return nil
}

// fill brings the database to so many uploads, and returns the ids of all.
func fill(ctx context.Context, pool *pgxpool.Pool, ids []upload.ID, rows int) ([]upload.ID, error) {
	columns := []string{"id", "user_id", "status", "provider", "resource_type", "file_name", "content_type", "size", "received_bytes",
		"pushed_bytes", "crc32c", "max_attempts", "asset", "progress", "staged_at", "started_at", "completed_at", "unstaged_at"}
	now := time.Now()
	_, err := pool.CopyFrom(ctx, pgx.Identifier{"slipway", "uploads"}, columns, pgx.CopyFromFunc(func() ([]any, error) {
		n := len(ids)
		if n >= rows {
			return nil, nil
		}
		id := upload.NewID()
		ids = append(ids, id)
		asset := upload.Asset{ID: string(id), URL: "https://cdn.test/" + string(id) + "/small.bin", ContentType: "application/octet-stream", Size: smallSize}
		return []any{id, reader(n), upload.Completed, "uploadcare", upload.Raw, "small.bin", "application/octet-stream", smallSize, smallSize,
			smallSize, 1, 10, asset, 1.0, now, now, now, now}, nil
	}))
	if err != nil {
		return nil, err
	}
	_, err = pool.Exec(ctx, `VACUUM ANALYZE slipway.uploads`)
	return ids, err
}

// reader is whose the nth row is.
func reader(n int) string {
	if n%2 == 0 {
		return user(0)
	}
	return user(1 + rand.IntN(otherUsers))
}

// own is one of the reader's uploads.
func own(ids []upload.ID) upload.ID { return ids[rand.IntN((len(ids)+1)/2)*2] }

// poll asks for the status of uploads, by several clients at once.
func poll(ctx context.Context, address string, o options, ids []upload.ID) error {
	clients := make([]*client, o.clients)
	for i := range clients {
		c, err := newReader(ctx, address)
		if err != nil {
			return err
		}
		defer c.Close()
		clients[i] = c
	}
	return atOnce(ctx, o.clients, o.polls, func(who int) error {
		_, err := clients[who].get("/v1/uploads/" + string(own(ids)))
		return err
	})
}

// client asks for what one user may read.
type client struct {
	*connection
	headers string
}

func newReader(ctx context.Context, address string) (*client, error) {
	t, err := token(user(0))
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return &client{conn, " HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: Bearer " + t + "\r\n\r\n"}, nil
}

func (c *client) get(path string) ([]byte, error) {
	resp, err := c.exchange([]byte("GET " + path + c.headers))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return content(resp, http.StatusOK)
}

// readTimes measures the reads of a person who looks at what they have, in milliseconds at p99.
func readTimes(ctx context.Context, s *stack, o options, ids []upload.ID) (map[string]float64, error) {
	c, err := newReader(ctx, s.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	const firstPage = "/v1/uploads"
	last, err := turnTo(c, firstPage, deepest)
	if err != nil {
		return nil, err
	}
	p99 := map[string]float64{}
	for what, path := range map[string]func() string{
		"status":       func() string { return "/v1/uploads/" + string(own(ids)) },
		"first page":   func() string { return firstPage },
		"deepest page": func() string { return last },
	} {
		var rounds []float64
		for range o.rounds {
			var took []float64
			for range o.polls / 4 {
				began := time.Now()
				if _, err := c.get(path()); err != nil {
					return nil, err
				}
				took = append(took, milliseconds(time.Since(began)))
			}
			rounds = append(rounds, quantile(took, 0.99))
		}
		p99[what] = quantile(rounds, 0.5)
	}
	return p99, nil
}

// turnTo follows the links from page to page, at most to the nth, and returns the path of the last.
func turnTo(c *client, path string, n int) (string, error) {
	for range n - 1 {
		body, err := c.get(path)
		if err != nil {
			return "", err
		}
		var page struct{ Next *string }
		if err := json.Unmarshal(body, &page); err != nil {
			return "", err
		}
		if page.Next == nil {
			break
		}
		path = *page.Next
	}
	return path, nil
}

// read is a server that tells of an upload as plainly as can be.
func read(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("read", flag.ContinueOnError)
	address := f.String("address", "", "to listen on")
	database := f.String("database", "", "to read from")
	if err := f.Parse(args); err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, postgres.Options{URL: *database, AppName: "slipway-bench-read"})
	if err != nil {
		return err
	}
	defer pool.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/uploads/{id}", func(w http.ResponseWriter, req *http.Request) {
		id, err := upload.ParseID(req.PathValue("id"))
		if err != nil {
			http.NotFound(w, req)
			return
		}
		u, err := postgres.GetUpload(req.Context(), pool, user(0), id)
		switch {
		case errors.Is(err, postgres.ErrNoUpload):
			http.NotFound(w, req)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(u) // the client's own trouble
		}
	})
	return serve(ctx, *address, mux)
}
