package cloudinary

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// signatureLife is how long after its timestamp a signature holds.
const signatureLife = time.Hour

// unsignedAllowed are the parameters an unsigned upload may carry (Upload API reference,
// "Unauthenticated requests").
var unsignedAllowed = []string{
	"file", "api_key", "resource_type", "upload_preset", "unsigned", "timestamp", "callback",
	"public_id", "public_id_prefix", "folder", "asset_folder", "tags", "context", "metadata",
	"face_coordinates", "custom_coordinates", "regions", "source", "filename_override",
}

// authenticate lets a call of the Upload API in by HTTP Basic, by signature, or unsigned by
// a preset, in this order. The age of a signature is asked only when it is right.
func (s *Sim) authenticate(r *http.Request, f *form) error {
	if _, _, ok := r.BasicAuth(); ok {
		return s.basic(r)
	}
	settings := s.Settings()
	key, signature := f.get("api_key"), f.get("signature")
	switch {
	case key == s.key && signature != "":
		if err := s.verify(f.params, signature, settings.SHA256); err != nil {
			return err
		}
		return s.fresh(f.get("timestamp"))
	case f.get("upload_preset") != "":
		return f.applyPreset(settings.Presets)
	case key == s.key:
		return missing("signature")
	case numeric(key):
		return fail(http.StatusUnauthorized, "Invalid api_key "+key)
	default:
		return fail(http.StatusBadRequest, "Upload preset must be specified when using unsigned upload")
	}
}

func numeric(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// basic checks key and secret in the Authorization header.
func (s *Sim) basic(r *http.Request) error {
	key, secret, ok := r.BasicAuth()
	switch {
	case !ok:
		return fail(http.StatusUnauthorized, "You must supply credentials")
	case key != s.key:
		return fail(http.StatusUnauthorized, "Invalid api_key "+key)
	case subtle.ConstantTimeCompare([]byte(secret), []byte(s.secret)) != 1:
		return fail(http.StatusUnauthorized, "api_secret mismatch")
	}
	return nil
}

// verify takes both versions of the string to sign and, unless the account is restricted,
// both hashes, without being told which.
func (s *Sim) verify(p params, signature string, sha256Only bool) error {
	algorithm := "sha256"
	if len(signature) == 40 && !sha256Only {
		algorithm = "sha1"
	}
	for version := 1; version <= 2; version++ {
		want := sign(stringToSign(p, version), s.secret, algorithm)
		if subtle.ConstantTimeCompare([]byte(signature), []byte(want)) == 1 {
			return nil
		}
	}
	return fail(http.StatusUnauthorized,
		fmt.Sprintf("Invalid Signature %s. String to sign - '%s'.", signature, stringToSign(p, 2)))
}

func (s *Sim) fresh(timestamp string) error {
	if timestamp == "" {
		return missing("timestamp")
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fail(http.StatusBadRequest, "Invalid timestamp "+timestamp)
	}
	at := time.Unix(seconds, 0).UTC()
	if s.controls.Clock.Now().Sub(at) > signatureLife {
		return fail(http.StatusBadRequest, fmt.Sprintf(
			"Stale request - reported time is %s which is more than 1 hour ago", at.Format("2006-01-02 15:04:05 -0700")))
	}
	return nil
}

// applyPreset makes the form an unsigned upload's: few parameters allowed, those of the
// preset stronger than the request's, never overwriting.
func (f *form) applyPreset(presets map[string]Preset) error {
	preset, ok := presets[f.get("upload_preset")]
	if !ok {
		return fail(http.StatusBadRequest, "Upload preset not found")
	}
	for _, name := range f.names() {
		if !slices.Contains(unsignedAllowed, name) {
			return fail(http.StatusBadRequest, name+" parameter is not allowed when using unsigned upload")
		}
	}
	for name, value := range preset {
		f.params[name] = []string{value}
	}
	f.params["overwrite"] = []string{"false"}
	return nil
}
