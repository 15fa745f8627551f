package doctor_test

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// deafPooler passes connections on to a Postgres and keeps its announcements back, as a transaction
// pooler does. It returns its address.
func deafPooler(t *testing.T, server string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var connections sync.WaitGroup
	t.Cleanup(func() {
		_ = ln.Close()
		connections.Wait()
	})
	connections.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			connections.Go(func() {
				_, _ = io.Copy(upstream, client)
				_ = upstream.Close()
			})
			connections.Go(func() {
				withoutAnnouncements(client, upstream)
				_ = client.Close()
			})
		}
	})
	return ln.Addr().String()
}

// withoutAnnouncements copies messages (PostgreSQL documentation, "Message Formats": a type and a
// length that counts itself) but for NotificationResponse.
func withoutAnnouncements(to io.Writer, from io.Reader) {
	const notificationResponse = 'A'
	head := make([]byte, 5)
	for {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if head[0] == notificationResponse {
			continue
		}
		if _, err := to.Write(slices.Concat(head, body)); err != nil {
			return
		}
	}
}
