package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
	"slipway/internal/upload"
)

const secret = "a secret of at least thirty-two bytes"

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestIdentify(t *testing.T) {
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	bearer := func(claims jwt.MapClaims) string {
		return "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), claims)
	}
	good := jwt.MapClaims{"sub": "alice", "exp": at(time.Hour)}
	tests := map[string]struct {
		authorization string
		want          string // "" is Unauthorized
	}{
		"a signed token says who asks":            {bearer(good), "alice"},
		"the scheme's case does not matter":       {"bearer" + strings.TrimPrefix(bearer(good), "Bearer"), "alice"},
		"a clock may be off by half a minute":     {bearer(jwt.MapClaims{"sub": "alice", "exp": at(-20 * time.Second), "nbf": at(20 * time.Second)}), "alice"},
		"no token is nobody":                      {"", ""},
		"an expired token is refused":             {bearer(jwt.MapClaims{"sub": "alice", "exp": at(-time.Minute)}), ""},
		"a token that never expires is refused":   {bearer(jwt.MapClaims{"sub": "alice"}), ""},
		"a token for later is refused":            {bearer(jwt.MapClaims{"sub": "alice", "exp": at(time.Hour), "nbf": at(time.Minute)}), ""},
		"a token for nobody is refused":           {bearer(jwt.MapClaims{"exp": at(time.Hour)}), ""},
		"a token for an empty name is refused":    {bearer(jwt.MapClaims{"sub": "", "exp": at(time.Hour)}), ""},
		"a token for a number is refused":         {bearer(jwt.MapClaims{"sub": 7, "exp": at(time.Hour)}), ""},
		"a user's name may have 255 bytes":        {bearer(jwt.MapClaims{"sub": strings.Repeat("a", 255), "exp": at(time.Hour)}), strings.Repeat("a", 255)},
		"a longer user's name is refused":         {bearer(jwt.MapClaims{"sub": strings.Repeat("a", 256), "exp": at(time.Hour)}), ""},
		"a user's name is text":                   {bearer(jwt.MapClaims{"sub": "ali\x00ce", "exp": at(time.Hour)}), ""},
		"a token signed with another key":         {"Bearer " + sign(t, jwt.SigningMethodHS256, []byte("another"), good), ""},
		"the right key in another algorithm":      {"Bearer " + sign(t, jwt.SigningMethodHS512, []byte(secret), good), ""},
		"an unsigned token":                       {"Bearer " + sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), ""},
		"what is no token":                        {"Bearer abc", ""},
		"an empty token":                          {"Bearer ", ""},
		"another scheme, even where it would fit": {"Basic " + strings.TrimPrefix(bearer(good), "Bearer "), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			who, err := auth.New(secret, "").Identify(tt.authorization)
			if tt.want == "" {
				refused(t, who, err)
				return
			}
			if err != nil || who != (auth.Caller{User: tt.want, Token: true}) {
				t.Errorf("Identify = %+v, %v; want %s by token", who, err, tt.want)
			}
		})
	}
}

func TestTheDevelopmentUserIsWhoBringsNoToken(t *testing.T) {
	a := auth.New(secret, "user_123")
	if who, err := a.Identify(""); err != nil || who != (auth.Caller{User: "user_123"}) {
		t.Errorf("without a token: %+v, %v", who, err)
	}
	who, err := a.Identify("Bearer abc")
	refused(t, who, err)
}

func TestWithoutASecretNoTokenIsTaken(t *testing.T) {
	token := sign(t, jwt.SigningMethodHS256, []byte{}, jwt.MapClaims{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})
	who, err := auth.New("", "user_123").Identify("Bearer " + token)
	refused(t, who, err)
}

func refused(t *testing.T, who auth.Caller, err error) {
	t.Helper()
	var e *upload.Error
	if !errors.As(err, &e) || e.Code != upload.Unauthorized {
		t.Errorf("Identify = %+v, %v; want %s", who, err, upload.Unauthorized)
	}
}
