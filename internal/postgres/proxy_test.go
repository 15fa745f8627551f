package postgres_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"slipway/internal/postgres/postgrestest"
)

// cut says what becomes of a COMMIT on its way through a proxy.
type cut int

const (
	pass         cut = iota
	beforeCommit     // the server never gets it
	beforeAnswer     // the server commits, and the client never hears of it
	lateCommit       // the client loses its connection at once, and the server gets the COMMIT on release
	noAnswer         // the server commits, and the client waits for ever
)

// proxy stands between a pool and the server and hurts the connections of a plan, one COMMIT after the other.
type proxy struct {
	listener net.Listener
	server   string // host:port

	mu     sync.Mutex
	plan   []cut
	down   bool // refuses everybody after the plan
	conns  map[net.Conn]bool
	held   chan struct{} // closed by release
	silent chan struct{} // closed when noAnswer keeps an answer back
	done   sync.WaitGroup
}

// through returns a URL of the same database by way of a proxy.
func through(t *testing.T, database string, plan ...cut) (string, *proxy) {
	t.Helper()
	at, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(postgrestest.Server(t).TCPURL(at.Path[1:]))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, server: server.Host, plan: plan, conns: map[net.Conn]bool{}, held: make(chan struct{}), silent: make(chan struct{})}
	p.done.Go(p.accept)
	t.Cleanup(func() {
		p.stop()
		p.done.Wait()
	})
	server.Host = listener.Addr().String()
	return server.String(), p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		p.done.Go(func() { p.carry(client, server) })
	}
}

// carry passes bytes on until either side or the plan ends the connection.
func (p *proxy) carry(client, server net.Conn) {
	var answers sync.WaitGroup
	var deaf sync.Mutex                // held while the client must not hear
	answered := make(chan struct{}, 1) // the server has said something since the last look
	defer answers.Wait()
	defer server.Close()
	defer client.Close()
	answers.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			select {
			case answered <- struct{}{}:
			default:
			}
			deaf.Lock()
			_, errWrite := client.Write(buf[:n])
			deaf.Unlock()
			if err != nil || errWrite != nil {
				client.Close()
				return
			}
		}
	})
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		how := pass
		if bytes.Contains(buf[:n], []byte("commit\x00")) {
			how = p.next()
		}
		switch how {
		case beforeCommit:
			return
		case beforeAnswer:
			deaf.Lock()
			ask(server, buf[:n], answered)
			client.Close()
			deaf.Unlock()
			answers.Wait()
			return
		case lateCommit:
			client.Close()
			<-p.held
			_, _ = server.Write(buf[:n])
			_, _ = io.Copy(io.Discard, server)
			return
		case noAnswer:
			deaf.Lock()
			defer deaf.Unlock()
			defer client.Close()
			ask(server, buf[:n], answered)
			close(p.silent)
			continue
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// ask returns when the server has answered a request.
func ask(server io.Writer, request []byte, answered <-chan struct{}) {
	select {
	case <-answered: // what was asked before
	default:
	}
	if _, err := server.Write(request); err == nil {
		<-answered
	}
}

// next is what becomes of the next COMMIT.
func (p *proxy) next() cut {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.plan) == 0 {
		return pass
	}
	how := p.plan[0]
	p.plan = p.plan[1:]
	if len(p.plan) == 0 && p.down {
		p.listener.Close()
	}
	return how
}

// release sends the COMMITs that came too late.
func (p *proxy) release() { close(p.held) }

// stop ends everything.
func (p *proxy) stop() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}
