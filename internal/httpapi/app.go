// Package httpapi answers HTTP: the routes, and below them what makes streamed bodies safe on Fiber.
package httpapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/recover"
	"github.com/valyala/fasthttp"
)

const (
	readBufferSize = 32 << 10 // bytes; also the most that a request's head may hold

	writeTimeout = 30 * time.Second // for an answer, after the handler
	idleTimeout  = 60 * time.Second // between requests on one connection

	// lastWords is kept of the drain time for telling the uploads still running that they were cut.
	lastWords = 2 * time.Second
	// abortTime is for handlers to notice that their connection is gone.
	abortTime = time.Second
)

// Options are what the server needs to know of its surroundings. Of those with a default, zero means the default.
type Options struct {
	Log            *slog.Logger
	AllowedOrigins []string // of pages that may call from elsewhere, or "*"
	Cookies        bool     // those pages may do so with our cookies, unless they are "*"
	Dev            bool     // serve this machine only, and any page from it
	PublicURL      string   // where clients reach the server, if that is set
	TrustedProxies []string // addresses and networks whose X-Forwarded-* headers count

	ReadTimeout  time.Duration // for a request's head and what is no upload; default 20 s
	Pace         Pace          // of uploads
	SlowReader   time.Duration // of a stream is cut off when it does not take what is sent at once within this, and may resume; default 10 s
	DrainTimeout time.Duration // default 25 s
}

// Server is the HTTP side of Slipway.
type Server struct {
	opts    Options
	app     *fiber.App
	guard   *guard
	origins *origins

	draining atomic.Bool     // not ready any more
	stopping context.Context // ends when the drain begins; whoever waits for something goes home then
	stop     context.CancelFunc
	cutting  context.Context // ends when uploads still running are cut
	cut      context.CancelFunc
}

// New returns a server for Serve.
func New(opts Options) *Server {
	opts.ReadTimeout = cmp.Or(opts.ReadTimeout, 20*time.Second)
	opts.Pace = cmp.Or(opts.Pace, defaultPace)
	opts.SlowReader = cmp.Or(opts.SlowReader, 10*time.Second)
	opts.DrainTimeout = cmp.Or(opts.DrainTimeout, 25*time.Second)
	s := &Server{opts: opts, guard: newGuard()}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.cutting, s.cut = context.WithCancel(context.Background())
	s.app = s.newApp()
	s.routes()
	return s
}

// newApp returns the router as streamed bodies need it, with what every request passes. BodyLimit does not
// hold for streamed bodies, and a length over it makes fasthttp read past the body; so it is out of the way.
func (s *Server) newApp() *fiber.App {
	app := fiber.New(fiber.Config{
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		BodyLimit:                    math.MaxInt,
		ReadBufferSize:               readBufferSize,
		ReadTimeout:                  s.opts.ReadTimeout,
		WriteTimeout:                 writeTimeout,
		IdleTimeout:                  idleTimeout,
		DisableStartupMessage:        true,
		ErrorHandler:                 s.answerError,
		EnableTrustedProxyCheck:      true,
		TrustedProxies:               s.opts.TrustedProxies,
		ProxyHeader:                  fiber.HeaderXForwardedFor,
		EnableIPValidation:           true,
	})
	srv := app.Server()
	srv.CloseOnShutdown = true
	srv.KeepHijackedConns = true     // the guard closes them
	srv.SecureErrorLogMessage = true // no headers in errors
	srv.ErrorHandler = s.answerUnread
	srv.Handler = s.detached(srv, s.secured(s.guard.handler(underTus(knownMethods(app.Config().RequestMethods, srv.Handler)))))

	s.origins = &origins{allowed: s.opts.AllowedOrigins, cookies: s.opts.Cookies, dev: s.opts.Dev, log: s.opts.Log, refused: map[string]bool{}}
	app.Use(s.access)
	app.Use(recover.New(recover.Config{EnableStackTrace: true, StackTraceHandler: s.logPanic}))
	app.Use(s.origins.cors())
	app.Use(bounded)
	if s.opts.Dev {
		app.Use(s.origins.onlyLoopback(s.opts.PublicURL))
	}
	return app
}

// knownMethods lets a method that Fiber does not know, and would answer in its own way, go as TRACE,
// which no route takes: the answer is then that of every other wrong method.
func knownMethods(methods []string, next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if !slices.Contains(methods, string(ctx.Method())) {
			ctx.Request.Header.SetMethod(fiber.MethodTrace)
		}
		next(ctx)
	}
}

func (s *Server) logPanic(c *fiber.Ctx, cause any) {
	s.opts.Log.Error("handler panicked", "request_id", requestID(c.Context()), "panic", cause, "stack", string(debug.Stack()))
}

func (s *Server) routes() {
	s.app.Get("/livez", func(c *fiber.Ctx) error { return c.SendString("ok\n") })
	s.app.Get("/problems/:code", describeProblem)
}

// Serve answers on ln until ctx ends, then drains: it takes no new connection, ends what waits or streams,
// lets uploads run on for most of DrainTimeout, cuts them so that each client is told, and returns nil when
// no connection and no goroutine of it is left. An error means that ln failed. Call it once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer s.cut()
	guarded := &guardListener{Listener: ln, guard: s.guard}
	served := make(chan error, 1)
	go func() { served <- s.app.Listener(guarded) }()

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
		served <- nil
	}
	s.drain(guarded)
	if err := <-served; err != nil && failed == nil {
		failed = err
	}
	if failed != nil {
		return fmt.Errorf("serve on %s: %w", ln.Addr(), failed)
	}
	return nil
}

// drain brings every connection to its end within DrainTimeout and abortTime.
func (s *Server) drain(ln net.Listener) {
	s.draining.Store(true)
	s.stop()
	s.guard.stopStreams()
	if err := ln.Close(); err != nil {
		s.opts.Log.Warn("the listener did not close", "err", err)
	}

	deadline := time.Now().Add(s.opts.DrainTimeout)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	lastCall := time.AfterFunc(s.opts.DrainTimeout-min(lastWords, s.opts.DrainTimeout/2), s.cut)
	defer lastCall.Stop()

	s.guard.each(func(c *guardConn) {
		if !c.used.Load() { // fasthttp waits for its first request
			c.abort()
		}
	})
	if err := errors.Join(s.app.ShutdownWithContext(ctx), s.guard.wait(ctx)); err == nil {
		return
	}
	s.opts.Log.Warn("connections were still busy when the drain time ended", "drain_timeout", s.opts.DrainTimeout)
	s.cut()
	s.guard.each((*guardConn).abort)
	ctx, cancel = context.WithTimeout(context.Background(), abortTime)
	defer cancel()
	_ = s.guard.wait(ctx) // what still runs holds no connection
}
