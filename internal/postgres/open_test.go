package postgres_test

import (
	"context"
	"strings"
	"testing"

	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func TestPlace(t *testing.T) {
	tests := map[string]struct{ url, host, database string }{
		"Neon":                            {"postgresql://o:p@ep-cool-dark-1.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require", "ep-cool-dark-1.eu-central-1.aws.neon.tech", "neondb"},
		"Neon's pooler is Neon":           {"postgresql://o:p@ep-cool-dark-1-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=require", "ep-cool-dark-1.eu-central-1.aws.neon.tech", "neondb"},
		"a host is the same in capitals":  {"postgres://o:p@DB.Example.com/app", "db.example.com", "app"},
		"a port is no part of it":         {"postgres://o:p@db.example.com:6543/app", "db.example.com", "app"},
		"a host without dots":             {"postgres://o:p@postgres:5432/app", "postgres", "app"},
		"a bare name ending alike":        {"postgres://o:p@my-pooler/app", "my-pooler", "app"},
		"an address":                      {"postgres://o:p@10.0.0.5/app", "10.0.0.5", "app"},
		"IPv6":                            {"postgres://o:p@[2001:db8::5]:5432/app", "2001:db8::5", "app"},
		"localhost":                       {"postgres://o:p@localhost/app", "local", "app"},
		"loopback":                        {"postgres://o:p@127.0.0.1:5433/app", "local", "app"},
		"all of loopback":                 {"postgres://o:p@127.0.1.1/app", "local", "app"},
		"IPv6 loopback":                   {"postgres://o:p@[::1]:5432/app", "local", "app"},
		"a socket":                        {"postgres://o@/app?host=/var/run/postgresql", "local", "app"},
		"a socket in key=value form":      {"host=/tmp user=o dbname=app", "local", "app"},
		"key=value form":                  {"host=ep-x-pooler.aws.neon.tech user=o password=p dbname=app", "ep-x.aws.neon.tech", "app"},
		"a database named after the user": {"postgres://o:p@db.example.com", "db.example.com", "o"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			host, database, err := postgres.Place(tt.url)
			if err != nil || host != tt.host || database != tt.database {
				t.Errorf("Place = %q, %q, %v, want %q, %q", host, database, err, tt.host, tt.database)
			}
		})
	}
}

func TestDirect(t *testing.T) {
	tests := map[string]struct {
		url, want string
		pooled    bool
	}{
		"Neon's pooler": {
			"postgresql://o:npg_S3cr$et@ep-cool-1-pooler.us-east-2.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
			"postgresql://o:npg_S3cr$et@ep-cool-1.us-east-2.aws.neon.tech/neondb?sslmode=require&channel_binding=require", true,
		},
		"a pooler with a port":        {"postgres://o:p%2Fq@a-pooler.neon.tech:5432/d", "postgres://o:p%2Fq@a.neon.tech:5432/d", true},
		"a pooler in key=value form":  {"host=a-pooler.neon.tech password='a b' dbname=d", "host=a.neon.tech password='a b' dbname=d", true},
		"a password like the pooler":  {"postgres://o:a-pooler.neon.tech@a-pooler.neon.tech/d", "postgres://o:a-pooler.neon.tech@a.neon.tech/d", true},
		"a host as a query parameter": {"postgres://o:p@/d?host=a-pooler.neon.tech", "postgres://o:p@/d?host=a.neon.tech", true},
		"Neon itself":                 {"postgres://o:p@a.neon.tech/d", "postgres://o:p@a.neon.tech/d", false},
		"a bare name ending alike":    {"postgres://o:p@my-pooler/d", "postgres://o:p@my-pooler/d", false},
		"a socket":                    {"postgres://o@/d?host=/var/run/x-pooler.y", "postgres://o@/d?host=/var/run/x-pooler.y", false},
		"an address":                  {"postgres://o:p@[::1]/d", "postgres://o:p@[::1]/d", false},
		"no URL":                      {"://", "://", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, pooled := postgres.Direct(tt.url)
			if got != tt.want || pooled != tt.pooled {
				t.Errorf("Direct = %q, %t, want %q, %t", got, pooled, tt.want, tt.pooled)
			}
		})
	}
}

func TestErrorsHoldNoPassword(t *testing.T) {
	const canary = "c4n4ry"
	server := postgrestest.Server(t).TCPURL("postgres")
	_, address, _ := strings.Cut(server, "@")
	urls := map[string]string{
		"refused":                   "postgres://o:" + canary + "@127.0.0.1:1/d",
		"wrong":                     "postgres://slipway:" + canary + "@" + address,
		"a port that is none":       "postgres://o:" + canary + "@h:port/d",
		"a slash":                   "postgres://o:" + canary + "/" + canary + "@h/d",
		"a hash":                    "postgres://o:" + canary + "#" + canary + "@h/d",
		"a percent":                 "postgres://o:%" + canary + "@h/d",
		"a question mark":           "postgres://o:p?" + canary + "@h/d",
		"a space":                   "postgres://o:" + canary + " " + canary + "@h/d",
		"an at":                     "postgres://o:" + canary + "@" + canary + "@h:x/d",
		"key=value form":            "host=127.0.0.1 port=1 password=" + canary,
		"key=value form, no key":    "host=h password=a " + canary,
		"key=value form, no end":    "host=h password='" + canary,
		"an unknown sslmode":        "postgres://o:" + canary + "@h/d?sslmode=" + canary,
		"no URL at all":             canary,
		"a certificate is not here": "postgres://o:" + canary + "@h/d?sslmode=verify-full&sslrootcert=/none",
		"a wrong number":            "postgres://o:" + canary + "@h/d?connect_timeout=" + canary,
	}
	for name, u := range urls {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			pool, err := postgres.Open(ctx, postgres.Options{URL: u})
			if err == nil {
				defer pool.Close()
				err = pool.Ping(ctx)
			}
			_, _, placed := postgres.Place(u)
			heard := postgres.Listen(ctx, u, postgres.DefaultNames, func() {}, func(string) {})
			for _, err := range []error{err, placed, heard, migrate(ctx, u)} {
				if strings.Contains(errorText(err), canary) {
					t.Errorf("the password is in %q", err)
				}
			}
			if err == nil {
				t.Error("it connected")
			}
		})
	}
}

func TestOpenBoundsLocks(t *testing.T) {
	b := newBench(t)
	for setting, want := range map[string]string{"lock_timeout": "3s", "idle_in_transaction_session_timeout": "5s"} {
		if got := one[string](t, b.Pool, `SHOW `+setting); got != want {
			t.Errorf("%s = %s, want %s", setting, got, want)
		}
	}
}

func TestNamesCheck(t *testing.T) {
	for _, schema := range []string{"", "Slipway", "a-b", "1st", `a"b`, "a;DROP", strings.Repeat("x", 49)} {
		_, err := postgres.Open(context.Background(), postgres.Options{URL: "postgres://h/d", Names: postgres.Names{Schema: schema, Guide: "public"}})
		if err == nil {
			t.Errorf("schema %q is accepted", schema)
		}
	}
}
