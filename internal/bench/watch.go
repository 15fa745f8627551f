package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// watch sees uploads end, by what the database announces.
type watch struct {
	news *pgx.Conn
	ask  *pgx.Conn
}

func newWatch(ctx context.Context, s *stack) (*watch, error) {
	var w watch
	var err error
	if w.news, err = pgx.Connect(ctx, s.env["DATABASE_URL"]); err != nil {
		return nil, err
	}
	if w.ask, err = pgx.Connect(ctx, s.env["DATABASE_URL"]); err != nil {
		w.close()
		return nil, err
	}
	if _, err = w.news.Exec(ctx, "LISTEN slipway_events"); err != nil {
		w.close()
		return nil, err
	}
	return &w, nil
}

func (w *watch) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, c := range []*pgx.Conn{w.news, w.ask} {
		if c != nil {
			_ = c.Close(ctx)
		}
	}
}

// completed returns when the newest upload is completed, and the moment when that was announced.
func (w *watch) completed(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		if _, err := w.news.WaitForNotification(ctx); err != nil {
			return time.Time{}, fmt.Errorf("wait for the upload's end: %w", err)
		}
		now := time.Now()
		var status string
		var message *string
		err := w.ask.QueryRow(ctx, `SELECT status, error_message FROM slipway.uploads ORDER BY id DESC LIMIT 1`).Scan(&status, &message)
		switch {
		case err != nil:
			return now, err
		case status == "completed":
			return now, nil
		case message != nil:
			return now, fmt.Errorf("the upload is %s: %s", status, *message)
		}
	}
}

// delivered returns how long the worker took for the newest upload, once that is completed.
func (w *watch) delivered(ctx context.Context) (took time.Duration, err error) {
	if _, err = w.completed(ctx); err != nil {
		return 0, err
	}
	err = w.ask.QueryRow(ctx, `SELECT completed_at - started_at FROM slipway.uploads ORDER BY id DESC LIMIT 1`).Scan(&took)
	return took, err
}

// left is how many uploads are not completed.
func (w *watch) left(ctx context.Context) (n int, err error) {
	err = w.ask.QueryRow(ctx, `SELECT count(*) FROM slipway.uploads WHERE status <> 'completed'`).Scan(&n)
	return n, err
}
