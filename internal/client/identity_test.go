package client

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestIdentity(t *testing.T) {
	token := func(issuer, subject string, expires time.Duration) string {
		signed, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
			Issuer: issuer, Subject: subject, ExpiresAt: jwt.NewNumericDate(time.Now().Add(expires)),
		}).SignedString([]byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	of := func(url, token string) string {
		c, err := New(Options{URL: url, Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return c.Identity()
	}
	mine := of("", token("", "alice", time.Hour))
	for name, tt := range map[string]struct {
		url, token string
		same       bool
	}{
		"a renewed token":         {"", token("", "alice", 2*time.Hour), true},
		"an address with a slash": {DefaultURL + "/", token("", "alice", time.Hour), true},
		"another user":            {"", token("", "bob", time.Hour), false},
		"another's user":          {"", token("https://issuer.example", "alice", time.Hour), false},
		"another service":         {"http://other", token("", "alice", time.Hour), false},
		"a key":                   {"", "alice", false},
		"nobody":                  {"", "", false},
		"a token without a user":  {"", token("", "", time.Hour), false},
	} {
		if got := of(tt.url, tt.token); (got == mine) != tt.same || len(got) != 64 || strings.Contains(got, "alice") {
			t.Errorf("%s: %s beside %s", name, got, mine)
		}
	}
}
