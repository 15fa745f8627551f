package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"slipway/internal/events"
	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	streamsEach = 10  // of one user's, all of which get their events
	streamNews  = 300 // events, one at a time
)

// measureStreams opens event streams on which nothing happens, and takes what they cost in memory, and then the time from the
// commit of an event to each stream that it is for; and from the commit of a change to the answer of who waits for it.
func measureStreams(ctx context.Context, s *stack, o options, r *report) error {
	api, err := s.startAPI(ctx)
	if err != nil {
		return err
	}
	plain, address, err := s.startYardstick(ctx, "follow", "-database", s.env["DATABASE_URL"])
	if err != nil {
		return err
	}
	pool, err := s.database(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	uploads, err := oneEach(ctx, pool, max(1, o.streams/streamsEach))
	if err != nil {
		return err
	}
	var kib, p99 [2]float64
	for i, server := range []struct {
		*child
		address string
	}{{api, s.address}, {plain, address}} {
		if kib[i], p99[i], err = follow(ctx, server.cmd.Process.Pid, server.address, pool, uploads, o.streams); err != nil {
			return server.failed(err)
		}
	}
	what := fmt.Sprintf("%d idle event streams", o.streams)
	r.addBeside(what, "KiB resident each", kib[0], kib[1], 20)
	r.addBeside("", "ms p99, commit to client", p99[0], p99[1], 100)
	waited, told, err := longPolls(ctx, s, pool, uploads[0])
	if err != nil {
		return api.failed(err)
	}
	r.addBeside("long poll", "ms p50, commit to client", quantile(waited, 0.5), quantile(told, 0.5), none)
	r.addBeside("", "ms p99", quantile(waited, 0.99), quantile(told, 0.99), 50)
	r.note("event streams: %d of each user, whose events go to all of them, one event at a time; from before its commit is asked for to each client that has read it. The yardstick is net/http, one LISTEN for the process and one query for each event, without a log to go on from, signs of life or limits. That of long polls is a connection that listens, and reads the row by itself.", streamsEach)
	return nil
}

// addBeside shows a figure beside the yardstick's. Ours is to be at most aim, whatever that is.
func (r *report) addBeside(what, unit string, ours, yardstick, aim float64) {
	r.rows = append(r.rows, row{what, unit, ours, yardstick, fmt.Sprintf("%.2f", ours/yardstick), judged("≤", aim, ours <= aim)})
}

// oneEach makes an upload that is on its way for each of so many users.
func oneEach(ctx context.Context, pool *pgxpool.Pool, users int) ([]upload.Upload, error) {
	all := make([]upload.Upload, users)
	for i := range all {
		all[i] = upload.Upload{ID: upload.NewID(), UserID: user(i)}
		_, err := pool.Exec(ctx, `
			INSERT INTO slipway.uploads (id, user_id, status, provider, file_name, content_type, size, max_attempts)
			VALUES ($1, $2, 'pushing', 'uploadcare', 'small.bin', 'application/octet-stream', 1, 10)`, all[i].ID, all[i].UserID)
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// happen writes an event of an upload, with a change of its row, and returns when the commit was asked for.
func happen(ctx context.Context, pool *pgxpool.Pool, u upload.Upload) (at time.Time, err error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return at, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing
	if _, err := tx.Exec(ctx, `UPDATE slipway.uploads SET version = version + 1 WHERE id = $1`, u.ID); err != nil {
		return at, err
	}
	err = postgres.WriteEvents(ctx, tx, u.UserID, upload.Event{UploadID: u.ID, Type: upload.ProgressMade, Status: upload.Pushing,
		Data: map[string]any{"pushed_bytes": 1, "progress": 0.5}})
	if err != nil {
		return at, err
	}
	at = time.Now()
	return at, tx.Commit(ctx)
}

// follow opens streams at a server, and measures them: KiB for each, and milliseconds at p99 to each.
func follow(ctx context.Context, pid int, address string, pool *pgxpool.Pool, uploads []upload.Upload, streams int) (kib, p99 float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	arrived := make(chan time.Time, streams)
	opened := make([]int, len(uploads)) // streams of the owner of each
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	open := func(n int) error {
		g, opening := errgroup.WithContext(ctx)
		g.SetLimit(16)
		for i := range n {
			of := i % len(uploads)
			opened[of]++
			g.Go(func() error {
				in, err := openStream(opening, address, uploads[of].UserID)
				if err == nil {
					reading.Go(func() { readStream(ctx, in, arrived) })
				}
				return err
			})
		}
		return g.Wait()
	}
	if err := open(len(uploads)); err != nil { // what is needed once, and by whoever is the first of a user
		return 0, 0, err
	}
	before, err := residentMemory(pid)
	if err != nil {
		return 0, 0, err
	}
	more := streams - len(uploads)
	if err := open(more); err != nil {
		return 0, 0, err
	}
	after, err := residentMemory(pid)
	if err != nil {
		return 0, 0, err
	}
	var took []float64
	for i := range streamNews {
		of := i % len(uploads)
		at, err := happen(ctx, pool, uploads[of])
		if err != nil {
			return 0, 0, err
		}
		for range opened[of] {
			select {
			case t := <-arrived:
				took = append(took, milliseconds(t.Sub(at)))
			case <-time.After(10 * time.Second):
				return 0, 0, fmt.Errorf("event %d has not come to every stream within 10 s", i)
			}
		}
	}
	return float64(after-before) / 1024 / float64(more), quantile(took, 0.99), nil
}

// openStream returns when the server has said where the stream begins.
func openStream(ctx context.Context, address, user string) (*connectedStream, error) {
	who, err := token(user)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &connectedStream{Conn: conn, lines: bufio.NewReaderSize(conn, 1<<10)}
	if _, err = fmt.Fprintf(conn, "GET /v1/events?user=%s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\nAuthorization: Bearer %s\r\n\r\n", user, address, who); err == nil {
		var line string
		if line, err = s.lines.ReadString('\n'); err == nil && !strings.Contains(line, " 200 ") {
			err = fmt.Errorf("a stream was answered with %q", line)
		}
		for err == nil && line != "event: start\n" {
			line, err = s.lines.ReadString('\n')
		}
		for err == nil && line != "\n" {
			line, err = s.lines.ReadString('\n')
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

type connectedStream struct {
	net.Conn
	lines *bufio.Reader
}

// readStream tells when events arrive, until ctx ends.
func readStream(ctx context.Context, s *connectedStream, arrived chan<- time.Time) {
	defer s.Close()
	end := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer end()
	for {
		line, err := s.lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
		if bytes.HasPrefix(line, []byte("id: ")) {
			select {
			case arrived <- time.Now():
			case <-ctx.Done():
				return
			}
		}
	}
}

// longPolls waits for changes of an upload, one at a time, and returns the milliseconds from each to its answer, and to who
// has listened to the database and read the row.
func longPolls(ctx context.Context, s *stack, pool *pgxpool.Pool, u upload.Upload) (took, told []float64, err error) {
	who, err := token(u.UserID)
	if err != nil {
		return nil, nil, err
	}
	conn, err := dial(ctx, s.address)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	w, err := newWatch(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	defer w.close()
	for range streamNews / 3 {
		tag := ""
		ask := func(more string) error {
			resp, err := conn.exchange(fmt.Appendf(nil, "GET /v1/uploads/%s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s\r\n", u.ID, s.address, who, more))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			tag = resp.Header.Get("ETag")
			_, err = content(resp, http.StatusOK)
			return err
		}
		if err := ask(""); err != nil {
			return nil, nil, err
		}
		var polled, heard time.Time
		waiting, waits := errgroup.WithContext(ctx)
		waiting.Go(func() error {
			defer func() { polled = time.Now() }()
			return ask("Prefer: wait=30\r\nIf-None-Match: " + tag + "\r\n")
		})
		waiting.Go(func() error {
			defer func() { heard = time.Now() }()
			if _, err := w.news.WaitForNotification(waits); err != nil {
				return err
			}
			_, err := postgres.UploadOf(waits, w.ask, u.ID)
			return err
		})
		if err := pause(ctx); err != nil { // by then they wait
			return nil, nil, err
		}
		changed, err := happen(ctx, pool, u)
		if err != nil {
			return nil, nil, err
		}
		if err := waiting.Wait(); err != nil {
			return nil, nil, err
		}
		took, told = append(took, milliseconds(polled.Sub(changed))), append(told, milliseconds(heard.Sub(changed)))
	}
	return took, told, nil
}

// plainFeed is a server that streams a user's events as plainly as can be.
type plainFeed struct {
	mu        sync.Mutex
	followers map[string]map[chan string]bool
}

// followPlainly serves GET /v1/events?user=… from one LISTEN.
func followPlainly(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("follow", flag.ContinueOnError)
	address := f.String("address", "", "to listen on")
	database := f.String("database", "", "to read from")
	if err := f.Parse(args); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, *database)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "LISTEN slipway_events"); err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, postgres.Options{URL: *database, AppName: "slipway-bench-follow"})
	if err != nil {
		return err
	}
	defer pool.Close()
	feed := &plainFeed{followers: map[string]map[chan string]bool{}}
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return feed.listen(ctx, conn, pool) })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", feed.stream)
	parts.Go(func() error { return serve(ctx, *address, mux) })
	return parts.Wait()
}

func (f *plainFeed) listen(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool) error {
	for {
		note, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		parts := strings.SplitN(note.Payload, " ", 3)
		if len(parts) < 3 {
			continue
		}
		seq, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			continue
		}
		found, err := postgres.Events(ctx, pool, parts[2], "", seq-1, 1)
		if err != nil {
			return err
		}
		f.mu.Lock()
		for _, e := range found {
			for c := range f.followers[e.UserID] {
				c <- string(events.Text(e))
			}
		}
		f.mu.Unlock()
	}
}

func (f *plainFeed) stream(w http.ResponseWriter, r *http.Request) {
	news, user := make(chan string, 16), r.FormValue("user")
	f.mu.Lock()
	if f.followers[user] == nil {
		f.followers[user] = map[chan string]bool{}
	}
	f.followers[user][news] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.followers[user], news)
		f.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	text := "event: start\ndata: {}\n\n"
	for {
		if _, err := w.Write([]byte(text)); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case text = <-news:
		}
	}
}
