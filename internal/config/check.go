package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	maxPort = 65535

	// maxWait is how long a request may be kept waiting; proxies give up at 60 s.
	maxWait = 55 * time.Second

	forever = 100 * 365 * 24 * time.Hour
)

func (c *Config) checkHTTP(faults *Faults) {
	h := &c.HTTP
	if _, err := netip.ParseAddr(h.Host); err != nil && h.Host != "" && h.Host != "localhost" {
		faults.add("HOST", fmt.Sprintf("is %q, which is no address", h.Host), "give 127.0.0.1 for this machine alone, or unset it for every interface")
	}
	between(faults, "PORT", h.Port, 0, maxPort)
	between(faults, "WORKER_PORT", c.WorkerPort, 0, maxPort)
	between(faults, "ADMIN_PORT", c.AdminPort, 0, maxPort)
	if host := c.AdminHost; host != "localhost" {
		if _, err := netip.ParseAddr(host); err != nil {
			faults.add("ADMIN_HOST", fmt.Sprintf("is %q, which is no address", host), "give an address of this machine that only those can reach who look after the service, or unset it for 127.0.0.1")
		}
	}
	between(faults, "UPLOAD_WAIT", h.UploadWait, 0, maxWait)
	between(faults, "MAX_UPLOAD_BYTES", h.MaxUploadBytes, 1, 1<<50)
	between(faults, "IDEMPOTENCY_TTL", h.KeyTTL, time.Minute, forever)
	between(faults, "DRAIN_TIMEOUT", c.DrainTimeout, 0, time.Hour)
	faults.base("PUBLIC_URL", &h.PublicURL)
	h.checkLogin(faults)
	for i := range h.AllowedOrigins {
		h.AllowedOrigins[i] = strings.TrimSuffix(h.AllowedOrigins[i], "/")
		if o := h.AllowedOrigins[i]; o != "*" && !isOrigin(o) {
			faults.add("ALLOWED_ORIGINS", fmt.Sprintf("has %q, which is no origin", o), "give the pages' origins, such as https://app.example.com, or *")
		}
	}
	for _, p := range h.TrustedProxies {
		_, addrErr := netip.ParseAddr(p)
		_, netErr := netip.ParsePrefix(p)
		if addrErr != nil && netErr != nil {
			faults.add("TRUSTED_PROXIES", fmt.Sprintf("has %q, which is neither an address nor a network", p), "give addresses or networks, such as 10.0.0.7,172.16.0.0/12")
		}
	}
}

// checkLogin refuses what no link of the page can lead to.
func (h *HTTP) checkLogin(faults *Faults) {
	const variable = "LOGIN_URL"
	u, err := url.Parse(h.LoginURL)
	web := err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil
	local := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/") && !strings.HasPrefix(u.Path, `/\`) // browsers read that as //
	switch {
	case h.LoginURL == "":
	case !web && !local:
		faults.add(variable, fmt.Sprintf("is %q, which is no page", h.LoginURL), "give the address at which your users sign in, such as https://app.example.com/login, or a path of this host, such as /login")
	case !h.Web:
		faults.add(variable, "is set, and WEB is off: nobody would be led there", "unset it, or set WEB=on")
	}
}

func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme != "" && u.Host != "" && s == u.Scheme+"://"+u.Host
}

func (c *Config) checkQuotas(faults *Faults) {
	q := c.Quotas
	between(faults, "QUOTA_STAGED_BYTES", q.StagedBytes, 0, 1<<49) // 15 digits, which is what a header's number has (RFC 9651 §3.3.1)
	between(faults, "QUOTA_STORED_BYTES", q.StoredBytes, 0, 1<<49)
	between(faults, "QUOTA_UPLOADS_PER_DAY", q.Uploads, 0, 1e9)
	between(faults, "QUOTA_CONCURRENT_UPLOADS", q.Receiving, 0, 1e6)
	between(faults, "QUOTA_REQUESTS_PER_MINUTE", q.Requests, 0, 1e6)
}

func (c *Config) checkStaging(faults *Faults) {
	s := c.Staging
	between(faults, "STAGING_RESERVE", s.Reserve, 0, 1<<50)
	between(faults, "STAGING_BUDGET", s.Budget, 0, 1<<50)
	between(faults, "STAGING_RETENTION", s.Retention, 0, forever)
	between(faults, "TRASH_RETENTION", s.TrashTTL, 0, forever)
	between(faults, "UNFINISHED_TTL", s.UnfinishedTTL, time.Minute, forever)
}

func (c *Config) checkImports(faults *Faults) {
	im := &c.Imports
	between(faults, "IMPORT_CONCURRENCY", im.Files, 1, 256)
	between(faults, "IMPORT_DEADLINE", im.Deadline, time.Minute, forever)
	if slices.Equal(im.PrivateNetworks, []string{"off"}) {
		im.PrivateNetworks = nil
	}
	for _, n := range im.PrivateNetworks {
		if _, err := netip.ParsePrefix(n); err != nil && n != "on" {
			faults.add("IMPORT_PRIVATE_NETWORKS", fmt.Sprintf("has %q, which is no network", n), "give networks such as 10.20.0.0/16,192.168.1.7/32, or on for all private ones")
		}
	}
}

func (c *Config) checkDelivery(need Need, faults *Faults) {
	d := c.Delivery
	between(faults, "MAX_ATTEMPTS", d.MaxAttempts, 1, 1000)
	between(faults, "PUSH_CONCURRENCY", d.Files, 1, 256)
	between(faults, "PUSH_PARTS", d.PartsPerFile, 1, 64)
	if d.Connections != 0 {
		between(faults, "PUSH_CONNECTIONS", d.Connections, 2, 1024)
	}
	between(faults, "DELIVERY_DEADLINE", d.Deadline, time.Minute, forever)
	if m := d.DirectUploads; m != "on" && m != "strict" && m != "off" {
		faults.add("DIRECT_UPLOADS", fmt.Sprintf("is %q", m), "give on, strict (only what was reserved), or off")
	}
	if command := strings.Fields(d.ScanCommand); len(command) > 0 && need&NeedWorker != 0 {
		if _, err := exec.LookPath(command[0]); err != nil {
			faults.add("SCAN_COMMAND", fmt.Sprintf("names %q, which is no program here", command[0]), "install it where the worker runs, or give its whole path")
		}
	}
}

func (c *Config) checkLinks(faults *Faults) {
	if d := c.Links.Delivery; d != "public" && d != "signed" {
		faults.add("DELIVERY", fmt.Sprintf("is %q", d), "give public or signed")
	}
	between(faults, "SIGNED_URL_TTL", c.Links.TTL, time.Minute, 7*24*time.Hour)
}

// between notes a fault when v is not in lo to hi.
func between[T cmp.Ordered](faults *Faults, variable string, v, lo, hi T) {
	if v < lo || v > hi {
		faults.add(variable, fmt.Sprintf("is %v", v), fmt.Sprintf("give %v to %v", lo, hi))
	}
}

// base notes a fault when the setting is no base address, and takes a trailing slash away.
func (f *Faults) base(variable string, s *string) {
	if *s == "" {
		return
	}
	*s = strings.TrimRight(*s, "/")
	u, err := url.Parse(*s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		f.add(variable, "is not the address of a server", "give one such as https://media.example.com, without ? and #")
	}
}

// placeholder notes a fault when the value is still the one that a guide prints.
func (f *Faults) placeholder(variable, value, remedy string) bool {
	if !strings.HasPrefix(value, "your_") {
		return false
	}
	f.add(variable, "is still the guide's placeholder", remedy)
	return true
}
