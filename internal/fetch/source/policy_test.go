package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"slipway/internal/upload"
)

func policy(t *testing.T, networks ...string) *Policy {
	t.Helper()
	p, err := NewPolicy(networks)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhatIsNotFetchedFrom(t *testing.T) {
	p := policy(t)
	for name, url := range map[string]string{
		"this machine":                        "http://127.0.0.1/",
		"all of this machine":                 "http://127.9.9.9/",
		"this machine in one number":          "http://2130706433/",
		"this machine in hex":                 "http://0x7f000001/",
		"this machine in hexes":               "http://0x7f.0.0.0x1/",
		"this machine in octal":               "http://0177.0.0.01/",
		"this machine in two parts":           "http://127.1/",
		"this machine with a dot behind":      "http://127.0.0.1./",
		"this machine in IPv6":                "http://[::1]/",
		"this machine as a mapped address":    "http://[::ffff:127.0.0.1]/",
		"the same in hex":                     "http://[::ffff:7f00:1]/",
		"this machine as compatible address":  "http://[::127.0.0.1]/",
		"no address":                          "http://0.0.0.0/",
		"no address in one number":            "http://0/",
		"no address in IPv6":                  "http://[::]/",
		"a private network of class A":        "http://10.1.2.3/",
		"a private network of class B":        "http://172.16.0.1/",
		"a private network of class C":        "http://192.168.1.1/",
		"a private network as mapped address": "http://[::ffff:192.168.1.1]/",
		"a carrier's network":                 "http://100.64.0.1/",
		"a link":                              "http://169.254.1.1/",
		"a cloud's secrets":                   "http://169.254.169.254/latest/meta-data/",
		"Alibaba's secrets":                   "http://100.100.100.200/",
		"Azure's secrets":                     "http://168.63.129.16/",
		"Oracle's secrets":                    "http://192.0.0.192/",
		"AWS's secrets in IPv6":               "http://[fd00:ec2::254]/",
		"a unique local address":              "http://[fc00::1]/",
		"a link in IPv6":                      "http://[fe80::1]/",
		"a link with its interface":           "http://[fe80::1%25eth0]/",
		"a site in IPv6":                      "http://[fec0::1]/",
		"many machines":                       "http://224.0.0.1/",
		"many machines in IPv6":               "http://[ff02::1]/",
		"everybody":                           "http://255.255.255.255/",
		"the future":                          "http://240.0.0.1/",
		"a benchmark":                         "http://198.18.0.1/",
		"documentation":                       "http://192.0.2.1/",
		"documentation in IPv6":               "http://[2001:db8::1]/",
		"NAT64 of this machine":               "http://[64:ff9b::7f00:1]/",
		"NAT64 of a private network":          "http://[64:ff9b::10.0.0.1]/",
		"local NAT64":                         "http://[64:ff9b:1::7f00:1]/",
		"6to4 of this machine":                "http://[2002:7f00:1::]/",
		"6to4 of a private network":           "http://[2002:a00:1::1]/",
		"Teredo":                              "http://[2001:0:53aa:64c::1]/",
		"another scheme":                      "ftp://example.com/file",
		"a file":                              "file:///etc/passwd",
		"gopher":                              "gopher://example.com:80/_x",
		"data":                                "data:text/plain,hello",
		"javascript":                          "javascript:alert(1)",
		"no scheme":                           "//example.com/a",
		"a bare path":                         "/etc/passwd",
		"no server":                           "http:///a",
		"opaque":                              "http:example.com",
		"a user":                              "http://user@example.com/",
		"a password":                          "http://user:secret@example.com/",
		"a server that looks like a user":     "http://example.com@127.0.0.1/",
		"another port":                        "http://example.com:8080/",
		"a database's port":                   "http://example.com:5432/",
		"port 0":                              "http://example.com:0/",
		"no port behind the colon":            "http://example.com:/",
		"a port that is none":                 "http://example.com:99999/",
		"a line break":                        "http://example.com/\r\nX: y",
		"a NUL":                               "http://example.com/\x00",
		"a blank in the server":               "http://exa mple.com/",
		"nothing":                             "",
		"much":                                "http://example.com/" + strings.Repeat("a", maxURL),
	} {
		if u, err := p.Check(url); err == nil || err.Code != upload.InvalidURL || strings.Contains(err.Message, "secret") {
			t.Errorf("%s, %q, is let through as %v, %v", name, url, u, err)
		}
	}
}

func TestWhatIsFetchedFrom(t *testing.T) {
	for url, networks := range map[string][]string{
		"https://example.com/film.mp4?token=x": nil,
		"http://example.com:80/":               nil,
		"https://example.com:443/":             nil,
		"HTTPS://EXAMPLE.COM/":                 nil,
		"http://93.184.215.14/":                nil,
		"https://[2606:4700::1111]/":           nil,
		"https://père.example/":                nil,
		"http://1.example.com/a#part":          nil,
		"http://127.0.0.1:9000/":               {"on"},
		"http://192.168.1.7:9000/":             {"192.168.1.0/24"},
		"http://[::ffff:192.168.1.7]/":         {"192.168.1.0/24"},
		"http://minio:9000/":                   {"on"},
		"http://169.254.169.254/":              {"169.254.169.254/32"},
	} {
		if u, err := policy(t, networks...).Check(url); err != nil || u.Fragment != "" {
			t.Errorf("with %v, %s is refused: %v", networks, url, err)
		}
	}
}

func TestWhatStaysClosed(t *testing.T) {
	for url, networks := range map[string][]string{
		"http://169.254.169.254/":    {"169.254.0.0/16", "on"},
		"http://169.254.1.1/":        {"on"},
		"http://[fe80::1]/":          {"on"},
		"http://[fd00:ec2::254]/":    {"on"},
		"http://100.100.100.200/":    {"on"},
		"http://10.0.0.1/":           {"192.168.1.0/24"},
		"http://93.184.215.14:9000/": {"on"}, // other ports are open where the operator has opened
		"http://0.0.0.0:9000/":       {"on"},
	} {
		if _, err := policy(t, networks...).Check(url); err == nil {
			t.Errorf("with %v, %s is let through", networks, url)
		}
	}
}

// nameserver answers every question for an IPv4 address with the next of these lists, and then with the last.
func nameserver(t *testing.T, answers ...[]string) *net.Resolver {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		packet := make([]byte, 512)
		asked := 0
		for {
			n, from, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(packet[:n]); err != nil {
				t.Error(err)
				return
			}
			m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				for _, a := range answers[min(asked, len(answers)-1)] {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body:   &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
					})
				}
				asked++
				if len(m.Answers) == 0 {
					m.RCode = dnsmessage.RCodeNameError
				}
			}
			reply, err := m.Pack()
			if err == nil {
				_, err = conn.WriteTo(reply, from)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// visited is a server that counts its requests.
func visited(t *testing.T) (address string, visits *atomic.Int64) {
	visits = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visits.Add(1)
		fmt.Fprint(w, "secret")
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), visits
}

// What counts is where a connection goes, not what its name led to when somebody looked.
func TestNamesThatLeadInside(t *testing.T) {
	address, visits := visited(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		networks []string
		answers  [][]string
		fetched  bool
	}{
		"to this machine":                      {[]string{"192.0.2.0/24"}, [][]string{{"127.0.0.1"}}, false},
		"to a cloud's secrets":                 {[]string{"on"}, [][]string{{"169.254.169.254"}}, false},
		"to nothing":                           {[]string{"192.0.2.0/24"}, [][]string{{}}, false},
		"inside at the second question":        {[]string{"127.0.0.2/32"}, [][]string{{"127.0.0.2"}, {"127.0.0.1"}}, false},
		"to two inside, one of which is open":  {[]string{"127.0.0.1/32"}, [][]string{{"10.1.2.3", "127.0.0.1"}}, true},
		"to one that the operator has opened":  {[]string{"127.0.0.1/32"}, [][]string{{"127.0.0.1"}}, true},
		"to one opened, at an unheard of port": {[]string{"127.0.0.0/8"}, [][]string{{"127.0.0.1"}}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			visits.Store(0)
			c := NewClient(policy(t, tt.networks...), Options{Resolver: nameserver(t, tt.answers...)})
			f, err := c.Open(t.Context(), "http://files.example.com:"+port+"/a", Mark{}, 1<<20)
			if err == nil {
				err = f.Close()
			}
			if tt.fetched {
				if err != nil || visits.Load() != 1 {
					t.Errorf("error %v, %d visits", err, visits.Load())
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || visits.Load() != 0 {
				t.Fatalf("error %v, %d visits", err, visits.Load())
			}
			if said := e.Says.Message; strings.Contains(said, "127.") || strings.Contains(said, "169.254") {
				t.Errorf("it says %s", said)
			}
		})
	}
}

// Nobody learns which names there are in a private network.
func TestANameInsideIsAnsweredAsNone(t *testing.T) {
	says := map[string]upload.Error{}
	for name, answers := range map[string][]string{"inside": {"10.1.2.3"}, "none": {}} {
		c := NewClient(policy(t), Options{Resolver: nameserver(t, answers)})
		_, err := c.Open(t.Context(), "http://files.example.com/a", Mark{}, 1<<20)
		var e *Error
		if !errors.As(err, &e) || e.Verdict != Refuse {
			t.Fatalf("%s: %v", name, err)
		}
		says[name] = e.Says
	}
	if says["inside"] != says["none"] {
		t.Errorf("inside it says %+v, of none %+v", says["inside"], says["none"])
	}
}

func TestRedirectsAreLookedAt(t *testing.T) {
	inside, visits := visited(t)
	_, port, err := net.SplitHostPort(inside)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"a cloud's secrets":     "http://169.254.169.254/latest/meta-data/iam/",
		"inside":                "http://" + inside + "/",
		"inside, by a name":     "http://inside.example.com:" + port + "/",
		"inside, in one number": "http://2130706433:" + port + "/",
		"inside, mapped":        "http://[::ffff:127.0.0.1]:" + port + "/",
		"a file":                "file:///etc/passwd",
		"another scheme":        "gopher://127.0.0.1:70/",
		"a user":                "http://user:pass@{here}/",
		"no URL":                "http://[::1",
	} {
		t.Run(name, func(t *testing.T) {
			visits.Store(0)
			var lc net.ListenConfig
			ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.2:0")
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			outside := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set("Location", strings.ReplaceAll(to, "{here}", r.Host))
				w.WriteHeader(http.StatusFound)
			}))
			_ = outside.Listener.Close()
			outside.Listener = ln
			outside.Start()
			defer outside.Close()
			c := NewClient(policy(t, "127.0.0.2/32"), Options{Resolver: nameserver(t, []string{"127.0.0.1"})})
			_, err = c.Open(t.Context(), outside.URL+"/?token=hush", Mark{}, 1<<20)
			var e *Error
			if !errors.As(err, &e) || e.Says.Code == "" || visits.Load() != 0 || asked != 1 {
				t.Fatalf("error %v, %d visits, %d requests", err, visits.Load(), asked)
			}
			for _, said := range []string{e.Says.Message, err.Error()} {
				if strings.Contains(said, "hush") || strings.Contains(said, "meta-data") || strings.Contains(said, "pass") {
					t.Errorf("it says %s", said)
				}
			}
		})
	}
}
