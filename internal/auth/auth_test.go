package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"slipway/internal/auth"
	"slipway/internal/upload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret of at least thirty-two bytes"

func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims, header ...string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	for n := 0; n+1 < len(header); n += 2 {
		token.Header[header[n]] = header[n+1]
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// shows tells what the authenticator makes of a header.
func shows(t testing.TB, a *auth.Authenticator, authorization string) (auth.Caller, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return a.Identify(ctx, auth.Shown{Authorization: authorization})
}

func wantUser(t testing.TB, a *auth.Authenticator, authorization, user string) {
	t.Helper()
	who, err := shows(t, a, authorization)
	if err != nil || who.User != user || who.By != auth.ByToken || !who.May(auth.Read|auth.Send|auth.Change) || who.May(auth.Vouch) || who.Anyone {
		t.Errorf("Identify = %+v, %v; want %s, by a token", who, err, user)
	}
}

func refused(t testing.TB, who auth.Caller, err error) {
	t.Helper()
	var e *upload.Error
	if !errors.As(err, &e) || e.Code != upload.Unauthorized {
		t.Errorf("Identify = %+v, %v; want %s", who, err, upload.Unauthorized)
	}
}

func wantRefused(t testing.TB, a *auth.Authenticator, authorization string) {
	t.Helper()
	who, err := shows(t, a, authorization)
	refused(t, who, err)
}

const patience = 10 * time.Second // after which a test gives up
