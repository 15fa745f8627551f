package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"slipway/internal/auth"
	"slipway/internal/upload"
)

// segment is a part of a token, made by hand.
func segment(t testing.TB, v any) string {
	t.Helper()
	if text, ok := v.(string); ok {
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

type header = map[string]any

func TestHostileTokens(t *testing.T) {
	rsaPair, ec, ed := rs256("rsa"), es256(t, "ec"), edDSA(t, "ed")
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	weak := pair{kid: "weak", method: jwt.SigningMethodRS256, private: weakKey}
	sealing := es256(t, "sealing")
	sealing.about.USE = jwkset.UseEnc
	longKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	long := pair{kid: "long", method: jwt.SigningMethodES384, private: longKey}
	mallory := es256(t, "ec")

	i := newIssuer(t, rsaPair, ec, ed, weak, sealing, long)
	set := watch(t, i, nil)
	both := auth.New(auth.Options{KeySet: set, Secret: secret})
	ways := map[string]*auth.Authenticator{
		"keys alone": auth.New(auth.Options{KeySet: set}), "keys and secret": both, "secret alone": auth.New(auth.Options{Secret: secret}),
	}
	eventually(t, "the keys", func() bool { return set.Standing().Keys == 3 }) // the others may sign nothing

	good := jwt.MapClaims{"sub": "alice", "exp": in(time.Hour)}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey().PublicKey)
	must(t, err)
	block := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	own, err := jwkset.NewJWKFromKey(mallory.private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: "ec"}})
	must(t, err)
	by := func(method jwt.SigningMethod, key any, h header) string {
		token := jwt.NewWithClaims(method, good)
		for name, value := range h {
			token.Header[name] = value
		}
		signed, err := token.SignedString(key)
		must(t, err)
		return signed
	}
	unsigned := func(h header, signature string) string {
		return segment(t, h) + "." + segment(t, good) + "." + signature
	}
	genuine := ec.token(t)
	parts := strings.Split(genuine, ".")

	for name, token := range map[string]string{
		// The algorithm is the token's word, and is not taken for more.
		"the public key as a secret, in PEM":       by(jwt.SigningMethodHS256, block, header{"kid": "rsa"}),
		"the public key as a secret, in DER":       by(jwt.SigningMethodHS256, der, header{"kid": "rsa"}),
		"the public key as a secret, as published": by(jwt.SigningMethodHS256, []byte(published(t, rsaPair)), header{"kid": "rsa"}),
		"the modulus as a secret":                  by(jwt.SigningMethodHS256, rsaKey().N.Bytes(), header{"kid": "rsa"}),
		"an empty secret":                          by(jwt.SigningMethodHS256, []byte{}, nil),
		"no algorithm":                             by(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, header{"kid": "ec"}),
		"no algorithm, with the key's name":        unsigned(header{"alg": "none", "kid": "rsa"}, ""),
		"no algorithm, oddly spelt":                unsigned(header{"alg": "nOnE", "kid": "rsa"}, ""),
		"no algorithm, and a signature":            unsigned(header{"alg": "none", "kid": "ec"}, parts[2]),
		"an empty algorithm":                       unsigned(header{"alg": "", "kid": "ec"}, ""),
		"two algorithms":                           unsigned(header{"alg": []string{"none", "ES256"}, "kid": "ec"}, parts[2]),
		"an algorithm that is a number":            unsigned(header{"alg": 0, "kid": "ec"}, parts[2]),
		"no algorithm at all":                      unsigned(header{"kid": "ec"}, parts[2]),
		"a longer algorithm with the right key":    by(jwt.SigningMethodRS512, rsaKey(), header{"kid": "rsa"}),
		"another padding with the right key":       by(jwt.SigningMethodPS256, rsaKey(), header{"kid": "rsa"}),
		"the secret in a longer algorithm":         by(jwt.SigningMethodHS384, []byte(secret), nil),
		"another key's name":                       by(jwt.SigningMethodES256, ec.private, header{"kid": "ed"}),
		"another key's name, of another family":    by(jwt.SigningMethodRS256, rsaKey(), header{"kid": "ec"}),
		"a key on another curve":                   by(jwt.SigningMethodES384, longKey, header{"kid": "long"}),
		"a key that is too short":                  by(jwt.SigningMethodRS256, weakKey, header{"kid": "weak"}),
		"a key that seals":                         sealing.token(t),
		"the issuer's key name, and another's key": mallory.token(t),
		"no key's name, and another's key":         by(jwt.SigningMethodES256, mallory.private, nil),
		"a key that came with the token":           by(jwt.SigningMethodES256, mallory.private, header{"kid": "ec", "jwk": own.Marshal()}),
		"a key at an address in the token":         by(jwt.SigningMethodES256, mallory.private, header{"kid": "ec", "jku": i.URL, "x5u": i.URL}),
		"a key's name that is a path":              by(jwt.SigningMethodES256, mallory.private, header{"kid": "../../../dev/null"}),
		"a key's name that is SQL":                 by(jwt.SigningMethodHS256, []byte{}, header{"kid": "' OR 1=1 --"}),
		"a key's name that is a number":            by(jwt.SigningMethodES256, ec.private, header{"kid": 7}),
		"a key's name that is null":                by(jwt.SigningMethodES256, ec.private, header{"kid": nil}),
		"an enormous key's name":                   by(jwt.SigningMethodES256, mallory.private, header{"kid": strings.Repeat("k", 20<<10)}),
		"what must be understood, and is not":      by(jwt.SigningMethodES256, ec.private, header{"kid": "ec", "crit": []string{"b64"}, "b64": false}),
		"nothing that must be understood":          by(jwt.SigningMethodES256, ec.private, header{"kid": "ec", "crit": []string{}}),
		// The signature is what it is of.
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"half a signature":                parts[0] + "." + parts[1] + "." + parts[2][:40],
		"a signature of zeros":            unsigned(header{"alg": "ES256", "kid": "ec"}, segment(t, strings.Repeat("\x00", 64))),
		"a signature of another token":    segment(t, header{"alg": "ES256", "kid": "ec"}) + "." + segment(t, jwt.MapClaims{"sub": "bob", "exp": in(time.Hour)}) + "." + parts[2],
		"a signature with one bit turned": parts[0] + "." + parts[1] + "." + turned(parts[2]),
		// Neither more nor less than three parts of JSON.
		"two parts":                     parts[0] + "." + parts[1],
		"four parts":                    genuine + ".x",
		"five parts, as if it were JWE": parts[0] + "..." + parts[1] + "." + parts[2],
		"dots":                          "..",
		"a thousand dots":               strings.Repeat(".", 1000),
		"a header that is null":         segment(t, "null") + "." + parts[1] + "." + parts[2],
		"a header that is a list":       segment(t, "[]") + "." + parts[1] + "." + parts[2],
		"claims that are null":          parts[0] + "." + segment(t, "null") + "." + parts[2],
		"claims, nested deeply":         parts[0] + "." + segment(t, strings.Repeat("[", 20000)) + "." + parts[2],
		"a space within":                parts[0] + " ." + parts[1] + "." + parts[2],
		"padding":                       parts[0] + "==." + parts[1] + "." + parts[2],
		"another prefix":                "slk_" + genuine,
		"an upload token's prefix":      "slt_" + genuine,
		"nothing but a prefix":          "slk_",
		"a token that is two":           genuine + "," + genuine,
	} {
		t.Run(name, func(t *testing.T) {
			for way, a := range ways {
				t.Run(way, func(t *testing.T) { wantRefusedQuietly(t, a, token) })
			}
		})
	}
	wantUser(t, both, bearer(genuine), "alice") // and what they were made from is good
}

// wantRefusedQuietly wants whoever guesses to learn nothing from it, in whichever place.
func wantRefusedQuietly(t testing.TB, a *auth.Authenticator, token string) {
	t.Helper()
	for _, shown := range []auth.Shown{{Authorization: "Bearer " + token}, {Token: token}} {
		who, err := a.Identify(t.Context(), shown)
		refused(t, who, err)
		var e *upload.Error
		if errors.As(err, &e) && e.Message != "What was sent to say who is asking is not accepted here." {
			t.Errorf("it is told %q", e.Message)
		}
	}
}

// turned is a signature in base64 with another first letter.
func turned(signature string) string {
	if signature[0] == 'A' {
		return "B" + signature[1:]
	}
	return "A" + signature[1:]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever is shown, only a good token names a user, and nothing panics.
func FuzzIdentify(f *testing.F) {
	ec := es256(f, "ec")
	set := watch(f, newIssuer(f, ec), nil)
	tokens, err := auth.NewTokens([]byte(secret), "fuzzed")
	must(f, err)
	a := auth.New(auth.Options{Secret: secret, KeySet: set, Tokens: tokens, Cookie: "session", UserHeader: "X-User"})
	good := ec.token(f)
	f.Add("Bearer "+good, "", "", "")
	f.Add("", good, "", "")
	f.Add("", "", good, "alice")
	f.Add("Bearer slk_abcdefgh_"+strings.Repeat("x", 26), "slt_"+good, "", "bob")
	f.Add("bearer  "+good[:len(good)-3], "slt_..", "a.b.c", "\x00")
	f.Add("Basic YTpi", "", "", "")
	f.Fuzz(func(t *testing.T, authorization, token, cookie, header string) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		who, err := a.Identify(ctx, auth.Shown{Authorization: authorization, Token: token, Cookie: cookie, UserHeader: header})
		var coded *upload.Error
		switch {
		case err != nil && !errors.As(err, &coded):
			t.Errorf("an error without a code: %v", err)
		case err != nil:
		case who.By == auth.ByProxy && who.User == header && auth.NamesUser(header):
		case who.User != "alice" || !strings.Contains(authorization+cookie, good[:strings.LastIndex(good, ".")]):
			t.Errorf("%+v got in", who)
		}
	})
}
