package source

import (
	"net/netip"
	"testing"
)

// An address that is fetched from is one of the web, by the reading of the library that fetches, and is
// still taken, for the same, when it is written anew.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/film.mp4?a=b#c", "http://127.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://0x7f.1/", "http://2130706433/", "http://user:pass@example.com/", "http://169.254.169.254/latest",
		"https://example.com:8443/", "http://example.com:80/", "ftp://example.com/", "http:example.com", "http:///x", "//example.com", "http://[fe80::1%25eth0]/", "http://example.com\\@127.0.0.1/", "http://1.2.3.4.:80/", "http://[::1]:80", "http://\u2488.com/", "http://127。0。0。1/",
	} {
		f.Add(seed)
	}
	p, err := NewPolicy(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, fault := p.Check(raw)
		if fault != nil {
			if fault.Code == "" || fault.Message == "" || u != nil {
				t.Errorf("%q is refused with %+v beside %v", raw, fault, u)
			}
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Port() != "" && u.Port() != "80" && u.Port() != "443" {
			t.Errorf("%q is fetched from %q", raw, u)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
			if addr = addr.Unmap(); addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
				t.Errorf("%q is fetched from %s", raw, addr)
			}
		}
		again, fault := p.Check(u.String())
		if fault != nil || again.String() != u.String() {
			t.Errorf("%q is %q, and that is %v, %v", raw, u, again, fault)
		}
	})
}
