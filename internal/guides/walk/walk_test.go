package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestEverythingTheGuidesAndTheirPageSayHolds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var said strings.Builder
	if err := run(ctx, &said); err != nil {
		t.Error(err)
	}
	t.Log("\n" + said.String())
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	goleak.VerifyNone(t,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),    // one per process, for ever
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"), // ends within 10 s of its server
	)
}
