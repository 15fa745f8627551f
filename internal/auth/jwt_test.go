package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
)

func TestTokensSignedWithTheSecret(t *testing.T) {
	bearer := func(claims jwt.MapClaims) string {
		return "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), claims)
	}
	good := jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)}
	tests := map[string]struct {
		authorization string
		want          string // "" is Unauthorized
	}{
		"a signed token says who asks":            {bearer(good), "alice"},
		"the scheme's case does not matter":       {"bearer" + strings.TrimPrefix(bearer(good), "Bearer"), "alice"},
		"a clock may be off by half a minute":     {bearer(jwt.MapClaims{"sub": "alice", "exp": in(-20 * time.Second), "nbf": in(20 * time.Second), "iat": in(20 * time.Second)}), "alice"},
		"no token is nobody":                      {"", ""},
		"an expired token is refused":             {bearer(jwt.MapClaims{"sub": "alice", "exp": in(-time.Minute)}), ""},
		"a token that never expires is refused":   {bearer(jwt.MapClaims{"sub": "alice"}), ""},
		"an end that is no number is none":        {bearer(jwt.MapClaims{"sub": "alice", "exp": "tomorrow"}), ""},
		"an end beyond all numbers is none":       {bearer(jwt.MapClaims{"sub": "alice", "exp": 1e300}), ""},
		"a token for later is refused":            {bearer(jwt.MapClaims{"sub": "alice", "exp": in(time.Hour), "nbf": in(time.Minute)}), ""},
		"a token from the future is refused":      {bearer(jwt.MapClaims{"sub": "alice", "exp": in(time.Hour), "iat": in(time.Minute)}), ""},
		"a token for nobody is refused":           {bearer(jwt.MapClaims{"exp": in(time.Hour)}), ""},
		"a token for an empty name is refused":    {bearer(jwt.MapClaims{"sub": "", "exp": in(time.Hour)}), ""},
		"a token for a number is refused":         {bearer(jwt.MapClaims{"sub": 7, "exp": in(time.Hour)}), ""},
		"a token for several is refused":          {bearer(jwt.MapClaims{"sub": []string{"alice"}, "exp": in(time.Hour)}), ""},
		"a user's name may have 255 bytes":        {bearer(jwt.MapClaims{"sub": strings.Repeat("a", 255), "exp": in(time.Hour)}), strings.Repeat("a", 255)},
		"a longer user's name is refused":         {bearer(jwt.MapClaims{"sub": strings.Repeat("a", 256), "exp": in(time.Hour)}), ""},
		"a user's name is text":                   {bearer(jwt.MapClaims{"sub": "ali\x00ce", "exp": in(time.Hour)}), ""},
		"a token signed with another key":         {"Bearer " + sign(t, jwt.SigningMethodHS256, []byte("another"), good), ""},
		"the right key in another algorithm":      {"Bearer " + sign(t, jwt.SigningMethodHS512, []byte(secret), good), ""},
		"an unsigned token":                       {"Bearer " + sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good), ""},
		"what is no token":                        {"Bearer abc", ""},
		"an empty token":                          {"Bearer ", ""},
		"another scheme, even where it would fit": {"Basic " + strings.TrimPrefix(bearer(good), "Bearer "), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a := auth.New(auth.Options{Secret: secret})
			if tt.want == "" {
				wantRefused(t, a, tt.authorization)
				return
			}
			wantUser(t, a, tt.authorization, tt.want)
		})
	}
}

func TestTokensAreForThisServiceAndFromItsIssuer(t *testing.T) {
	a := auth.New(auth.Options{Secret: secret, Issuer: "https://auth.test", Audience: []string{"files", "media"}, UserClaim: "https://app.test/uid"})
	good := jwt.MapClaims{"iss": "https://auth.test", "aud": "media", "https://app.test/uid": "alice", "sub": "mallory", "exp": in(time.Hour)}
	but := func(claim string, value any) jwt.MapClaims {
		claims := jwt.MapClaims{}
		for name, v := range good {
			claims[name] = v
		}
		if claims[claim] = value; value == nil {
			delete(claims, claim)
		}
		return claims
	}
	tests := map[string]struct {
		claims jwt.MapClaims
		taken  bool
	}{
		"as it should be":                {good, true},
		"for several audiences":          {but("aud", []string{"mail", "files"}), true},
		"for another audience":           {but("aud", "mail"), false},
		"for no audience":                {but("aud", nil), false},
		"for an audience that begins so": {but("aud", "files2"), false},
		"from another issuer":            {but("iss", "https://auth.test/"), false},
		"from nobody":                    {but("iss", nil), false},
		"without the user's claim":       {but("https://app.test/uid", nil), false},
		"over, and for another audience": {jwt.MapClaims{"iss": "https://auth.test", "aud": "mail", "exp": in(-time.Hour)}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			authorization := "Bearer " + sign(t, jwt.SigningMethodHS256, []byte(secret), tt.claims)
			if tt.taken {
				wantUser(t, a, authorization, "alice")
				return
			}
			wantRefusedQuietly(t, a, strings.TrimPrefix(authorization, "Bearer "))
		})
	}
}

func TestTheDevelopmentUserIsWhoBringsNothing(t *testing.T) {
	a := auth.New(auth.Options{Secret: secret, DevUser: "user_123"})
	if who, err := shows(t, a, ""); err != nil || who.User != "user_123" || who.By != auth.ByDevUser {
		t.Errorf("without a token: %+v, %v", who, err)
	}
	wantRefused(t, a, "Bearer abc")
}

func TestWithoutASecretNoTokenIsTaken(t *testing.T) {
	token := sign(t, jwt.SigningMethodHS256, []byte{}, jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)})
	wantRefused(t, auth.New(auth.Options{DevUser: "user_123"}), "Bearer "+token)
}

func TestWhatIsShownGoesBeforeWhatIsAdded(t *testing.T) {
	a := auth.New(auth.Options{Secret: secret, Cookie: "session", UserHeader: "X-User", DevUser: "dev"})
	token := func(user string) string {
		return sign(t, jwt.SigningMethodHS256, []byte(secret), jwt.MapClaims{"sub": user, "exp": in(time.Hour)})
	}
	tests := map[string]struct {
		shown auth.Shown
		want  string // "" is Unauthorized
		by    auth.Way
	}{
		"a header":                       {auth.Shown{Authorization: "Bearer " + token("a"), Cookie: token("b"), UserHeader: "c"}, "a", auth.ByToken},
		"a cookie":                       {auth.Shown{Cookie: token("b"), UserHeader: "c"}, "b", auth.ByCookie},
		"a proxy":                        {auth.Shown{UserHeader: "c"}, "c", auth.ByProxy},
		"nobody":                         {auth.Shown{}, "dev", auth.ByDevUser},
		"a wrong header hides no cookie": {auth.Shown{Authorization: "Bearer x", Cookie: token("b")}, "", ""},
		"a wrong cookie hides no proxy":  {auth.Shown{Cookie: "x", UserHeader: "c"}, "", ""},
		"a wrong user hides nobody":      {auth.Shown{UserHeader: "c\n"}, "", ""},
		"a user's token is in no query":  {auth.Shown{Token: token("a")}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			who, err := a.Identify(t.Context(), tt.shown)
			if tt.want == "" {
				refused(t, who, err)
			} else if err != nil || who.User != tt.want || who.By != tt.by || who.By.Ambient() != (tt.by != auth.ByToken) {
				t.Errorf("Identify = %+v, %v; want %s by %s", who, err, tt.want, tt.by)
			}
		})
	}
}
