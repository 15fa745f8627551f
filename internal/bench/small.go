package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

// measureSmall sends small files to the API, many at a time and each client for a user of its own, beside
// the transaction that records an upload, by itself.
func measureSmall(ctx context.Context, s *stack, o options, r *report) error {
	api, err := s.startAPI(ctx)
	if err != nil {
		return err
	}
	pool, err := s.database(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	queue, err := postgres.NewQueue(pool, postgres.DefaultNames)
	if err != nil {
		return err
	}
	content := make([]byte, smallSize)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	bare := func() (sample, error) {
		took, cpu, err := cpuOf(os.Getpid(), func() error {
			return atOnce(ctx, o.clients, o.small, func(client int) error { return record(ctx, pool, queue, user(client)) })
		})
		return perFile(o.small, took, cpu), err
	}
	for _, kind := range []string{"raw", "multipart"} {
		clients, err := newRepeaters(ctx, s.address, kind, content, o.clients)
		defer func() {
			for _, c := range clients {
				_ = c.Close()
			}
		}()
		if err != nil {
			return err
		}
		ours, yardstick, err := byTurns(o.rounds, func() (sample, error) {
			took, cpu, err := api.cpu(func() error {
				return atOnce(ctx, o.clients, o.small, func(client int) error { return clients[client].send() })
			})
			return perFile(o.small, took, cpu), err
		}, bare)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("64 KiB %s, %d clients", kind, o.clients)
		r.addRatio(what, "files/s", ours.rate, yardstick.rate, 0.6)
		r.addRatio("", "CPU-ms/file without Postgres", ours.cpu, yardstick.cpu, none)
	}
	r.note("64 KiB: the yardstick is the transaction alone (upload, event, job), by as many goroutines over as many connections as the API has.")
	return noteSyncs(ctx, s, o, r, content)
}

func user(client int) string { return "user_" + strconv.Itoa(client) }

// atOnce does something n times, by several at once, which it numbers from 0.
func atOnce(ctx context.Context, several, n int, do func(who int) error) error {
	var begun atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for who := range several {
		g.Go(func() error {
			for begun.Add(1) <= int64(n) {
				if err := errors.Join(ctx.Err(), do(who)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// record is what ingest does in the database for a staged small file.
func record(ctx context.Context, pool *pgxpool.Pool, queue *postgres.Queue, user string) error {
	return accept(ctx, pool, queue, upload.Upload{
		ID: upload.NewID(), UserID: user, Provider: "uploadcare", ResourceType: upload.Raw,
		FileName: "small.bin", ContentType: "application/octet-stream", Size: smallSize, MaxAttempts: 10, CreatedAt: time.Now(),
	})
}

// accept makes a staged file an upload.
func accept(ctx context.Context, pool *pgxpool.Pool, queue *postgres.Queue, u upload.Upload) error {
	return postgres.AsUser(ctx, pool, postgres.Claims{Subject: u.UserID}, func(tx pgx.Tx) error {
		var err error
		if u.JobID, err = postgres.InsertPush(ctx, tx, queue, u); err != nil {
			return err
		}
		return postgres.InsertStaged(ctx, tx, u, 7*24*time.Hour)
	})
}

// smallRequest is an upload of one small file.
func smallRequest(ctx context.Context, url, token, kind string, content []byte) (*http.Request, error) {
	contentType, body := "application/octet-stream", content
	if kind == "multipart" {
		around, err := newForm("small.bin")
		if err != nil {
			return nil, err
		}
		contentType, body = around.contentType, bytes.Join([][]byte{around.before, content, around.after}, nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	describe(req, token, "small.bin")
	req.Header.Set("Content-Type", contentType)
	return req, nil
}

// repeater sends one request again and again over one connection.
type repeater struct {
	*connection
	bytes []byte
}

// newRepeaters returns one for each client's small file.
func newRepeaters(ctx context.Context, address, kind string, content []byte, clients int) (all []*repeater, err error) {
	for i := range clients {
		t, err := token(user(i))
		if err != nil {
			return all, err
		}
		req, err := smallRequest(ctx, "http://"+address+"/v1/uploads", t, kind, content)
		if err != nil {
			return all, err
		}
		var b bytes.Buffer
		if err := req.Write(&b); err != nil {
			return all, err
		}
		conn, err := dial(ctx, address)
		if err != nil {
			return all, err
		}
		all = append(all, &repeater{conn, b.Bytes()})
	}
	return all, nil
}

func (r *repeater) send() error { return accepted(r.exchange(r.bytes)) }

// connection is lighter than an http.Client, for it shares the machine's cores with what is measured.
type connection struct {
	net.Conn
	answers *bufio.Reader
}

func dial(ctx context.Context, address string) (*connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{conn, bufio.NewReader(conn)}, nil
}

func (c *connection) exchange(request []byte) (*http.Response, error) {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.answers, nil)
}

// noteSyncs says what durability costs a small file on this disk: what is left of its rate when file and
// directory are synced.
func noteSyncs(ctx context.Context, s *stack, o options, r *report, content []byte) error {
	dir := s.received()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	rate := func(several int, synced bool) (float64, error) {
		began := time.Now()
		err := atOnce(ctx, several, o.small/2+1, func(int) error { return write(dir, content, synced) })
		return float64(o.small/2+1) / time.Since(began).Seconds(), err
	}
	alone, err1 := rate(1, true)
	together, err2 := rate(o.clients, true)
	unsynced, err3 := rate(o.clients, false)
	r.note("64 KiB written by hand, with fsync of file and directory: %.2f ms one at a time, %.0f files/s %d at a time; without fsync %.0f files/s.",
		1000/alone, together, o.clients, unsynced)
	return errors.Join(err1, err2, err3)
}

func write(dir string, content []byte, synced bool) error {
	f, err := os.Create(filepath.Join(dir, string(upload.NewID())))
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if synced {
		err = errors.Join(err, f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil || !synced {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
