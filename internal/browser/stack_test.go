package browser

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"slipway/internal/config"
	"slipway/internal/devstack"
	"slipway/internal/process/api"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // one per process, for ever
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // ends within 10 s of its server
	)
}

// devStack runs everything but the parts that the test has of its own, until it ends.
func devStack(t *testing.T, without ...string) devstack.Stack {
	t.Helper()
	dir, err := os.MkdirTemp("", "slipway-browser") // not t.TempDir: Postgres runs as another user and must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ready := make(chan devstack.Stack, 1)
	ended := background(t, func(ctx context.Context) error {
		return devstack.Run(ctx, devstack.Options{
			Dir: dir, Without: without, Log: logger(t), Out: t.Output(), Ready: func(s devstack.Stack) { ready <- s },
		})
	})
	select {
	case s := <-ready:
		return s
	case err := <-ended:
		t.Fatalf("the stack did not start: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the stack was not ready within a minute")
	}
	return devstack.Stack{}
}

// serve runs an API of the stack, with settings of its own, until the test ends.
func serve(t *testing.T, stack devstack.Stack, settings map[string]string) (url string) {
	t.Helper()
	env := maps.Clone(stack.Env)
	maps.Copy(env, settings)
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	cfg, err := config.Load(config.Options{Environ: environ, Need: config.NeedDatabase | config.NeedAPI})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	ended := background(t, func(ctx context.Context) error {
		return api.Run(ctx, api.Options{Config: cfg, Log: logger(t), Listener: ln, Ready: func() { close(ready) }})
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the API did not start: %v", err)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + port // another site than the pages' 127.0.0.1
}

// background runs f until the test ends, and tells if it ends before.
func background(t *testing.T, f func(context.Context) error) <-chan error {
	ctx, stop := context.WithCancel(context.Background())
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		err := f(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return ended
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
