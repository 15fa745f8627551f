package providersim

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a handler on a listener of its own.
type Server struct {
	URL string // http://host:port, without a slash at the end

	http   http.Server
	leave  context.CancelFunc
	served chan error
	conns  sync.WaitGroup
}

// Listen serves h on addr ("127.0.0.1:0" takes any free port) until Close.
func Listen(addr string, h http.Handler) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	ctx, leave := context.WithCancel(context.Background())
	s := &Server{URL: "http://" + l.Addr().String(), leave: leave, served: make(chan error, 1)}
	s.http = http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.count,
	}
	go func() { s.served <- s.http.Serve(l) }()
	return s, nil
}

func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// Close cuts every connection, as a killed provider would, and returns when all handlers have.
func (s *Server) Close() error {
	s.leave()
	err := s.http.Close()
	if serveErr := <-s.served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	s.conns.Wait()
	return err
}
