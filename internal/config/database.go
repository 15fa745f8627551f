package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

const copyURL = "copy the connection string from the dashboard of your Neon project, button Connect"

// schemaName is a name that needs no quotes; River takes at most 46 bytes.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,45}$`)

// checkDatabase checks the connection strings and finds the direct one. other is DATABASE_DIRECT_URL.
func (c *Config) checkDatabase(need Need, other string, faults *Faults) {
	db := &c.Database
	between(faults, "DATABASE_MAX_CONNS", db.MaxConns, 2, 1000) // one of them listens
	between(faults, "HISTORY_RETENTION", db.HistoryRetention, 0, forever)
	faults.schema("DATABASE_SCHEMA", db.Schema)
	faults.schema("GUIDE_SCHEMA", db.GuideSchema)
	if db.URL == "" && need != 0 {
		faults.add("DATABASE_URL", "is not set", copyURL)
	}
	host := faults.connString("DATABASE_URL", db.URL)

	direct := strings.Replace(host, "-pooler.", ".", 1)
	switch {
	case db.DirectURL != "":
		db.DirectFrom = "DATABASE_URL_UNPOOLED"
	case other != "":
		db.DirectURL, db.DirectFrom = Secret(other), "DATABASE_DIRECT_URL"
	case direct != host:
		db.DirectURL, db.DirectFrom = Secret(strings.Replace(db.URL.Reveal(), host, direct, 1)), "DATABASE_URL without -pooler"
	default:
		db.DirectURL, db.DirectFrom = db.URL, "DATABASE_URL"
	}
	if host := faults.connString(db.DirectFrom, db.DirectURL); strings.Contains(host, "-pooler.") {
		faults.add(db.DirectFrom, "leads to a pooler, "+host, "copy the connection string that Neon shows with connection pooling switched off, or unset it")
	}
}

func (f *Faults) schema(variable, name string) {
	if !schemaName.MatchString(name) || strings.HasPrefix(name, "pg_") {
		f.add(variable, fmt.Sprintf("is %q", name), "give lower-case letters, digits and _, at most 46 of them, that do not begin with a digit or pg_")
	}
}

// connString returns the host of a connection string, or notes why it is none. Nothing of the string
// itself comes into a fault.
func (f *Faults) connString(variable string, s Secret) (host string) {
	const spell = "write @, :, / and # in the password as %40, %3A, %2F and %23"
	raw := s.Reveal()
	if raw == "" || f.placeholder(variable, raw, copyURL) {
		return ""
	}
	if strings.HasPrefix(raw, "psql ") || strings.ContainsAny(raw[:1], `'"`) {
		f.add(variable, "has more in it than the connection string", "begin it with postgresql://, without psql and quotes")
		return ""
	}
	u, err := url.Parse(raw)
	isURL := strings.Contains(raw, "://")
	if isURL && err != nil {
		f.add(variable, "cannot be read as a URL", spell)
		return ""
	}
	if isURL && u.Scheme != "postgres" && u.Scheme != "postgresql" {
		f.add(variable, fmt.Sprintf("is a URL of %s, not of postgresql", u.Scheme), copyURL)
		return ""
	}
	cfg, err := pgconn.ParseConfig(raw)
	if err != nil {
		problem := "is no connection string of Postgres"
		if inner := errors.Unwrap(err); isURL && inner != nil {
			problem += ": " + inner.Error() // about one parameter; of another form it would quote the beginning
		}
		f.add(variable, problem, copyURL)
		return ""
	}
	return cfg.Host
}
