// Package source reads a file from the web, from where its last reader has come to, and from nowhere that is
// not meant for everybody.
package source

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"code.dny.dev/ssrf"

	"slipway/internal/upload"
)

// Policy says which addresses files are fetched from: those of the public network at the ports of HTTP, and
// what the operator has opened besides.
type Policy struct {
	public *ssrf.Guardian
	opened []netip.Prefix
}

// Every network that "on" opens: those of a house, and this machine. Link-local ones are not among them.
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("::1/128"),
}

// keepers are where clouds tell a machine its own secrets. No network opens them that is larger than they are.
var keepers = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("169.254.170.2"), netip.MustParseAddr("169.254.170.23"), // most of them
	netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("fd00:ec2::23"), // AWS
	netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("192.0.0.192"), // Alibaba, Azure, Oracle
}

// NewPolicy opens these networks, CIDRs, at any port; "on" opens all private ones.
func NewPolicy(networks []string) (*Policy, error) {
	p := &Policy{public: ssrf.New()}
	for _, n := range networks {
		if n == "on" {
			p.opened = append(p.opened, private...)
			continue
		}
		prefix, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, fmt.Errorf("network to import from: %w", err)
		}
		p.opened = append(p.opened, prefix.Masked())
	}
	return p, nil
}

// errForbidden means that an address is not fetched from.
var errForbidden = errors.New("the address is not fetched from")

// reaches refuses, with errForbidden, what nobody may fetch from.
func (p *Policy) reaches(at netip.AddrPort) error {
	addr := at.Addr().Unmap()
	for _, n := range p.opened {
		if n.Contains(addr) && (n.IsSingleIP() || !slices.Contains(keepers, addr)) {
			return nil
		}
	}
	if err := p.public.SafeAddrPort(netip.AddrPortFrom(addr, at.Port())); err != nil || slices.Contains(keepers, addr) {
		return errForbidden
	}
	return nil
}

// control stands before every connection, with the very address that it goes to.
func (p *Policy) control(network, address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return errForbidden
	}
	return p.reaches(at)
}

// maxURL is the most bytes in an address: more than signed ones have.
const maxURL = 8 << 10

// Check returns the URL to fetch from, or an Error with InvalidURL. It asks nobody: where a name leads is
// found out when it is fetched from.
func (p *Policy) Check(raw string) (*url.URL, *upload.Error) {
	if len(raw) > maxURL {
		return nil, invalid("The url has more than %d bytes.", maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, invalid("The url cannot be read as one.")
	}
	if fault := p.fault(u); fault != nil {
		return nil, fault
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// fault is what is wrong with a URL, as it is given or as another leads on to it.
func (p *Policy) fault(u *url.URL) *upload.Error {
	host := u.Hostname()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return invalid("Files are imported by http and https alone.")
	case u.User != nil:
		return invalid("A url with a user name or a password in it is not imported from.")
	case host == "" || u.Opaque != "":
		return invalid("The url names no server.")
	case strings.Contains(host, "%"):
		return invalid("The url names an interface of a machine.")
	}
	port, err := portOf(u)
	if err != nil {
		return invalid("The url's port is not one.")
	}
	if len(p.opened) == 0 && port != 80 && port != 443 {
		return invalid("Files are imported from the ports 80 and 443 alone.")
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && p.reaches(netip.AddrPortFrom(addr, port)) != nil:
		return invalid("Nothing is imported from this address.")
	case err != nil && endsInNumber(host):
		return invalid("The url has an address that is not written as one.")
	}
	return nil
}

func portOf(u *url.URL) (uint16, error) {
	switch port := u.Port(); {
	case port != "":
		n, err := strconv.ParseUint(port, 10, 16)
		return uint16(n), err
	case strings.HasSuffix(u.Host, ":"):
		return 0, &net.AddrError{Err: "no port", Addr: u.Host}
	case u.Scheme == "http":
		return 80, nil
	}
	return 443, nil
}

// endsInNumber tells of a host that some take for an address of 32 bits (URL Standard, "ends in a number checker"):
// 2130706433, 0x7f.1, 0177.0.0.1.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" {
		return true
	}
	if digits, hex := strings.CutPrefix(strings.ToLower(last), "0x"); hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

func invalid(format string, a ...any) *upload.Error {
	return &upload.Error{Code: upload.InvalidURL, FixableBy: upload.ByYou, Message: fmt.Sprintf(format, a...)}
}
