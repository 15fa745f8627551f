package doctor_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestSignedDelivery(t *testing.T) {
	t.Run("is read by signed links, and found open where it is", func(t *testing.T) {
		env := surroundings(t) // whose Uploadcare answers everybody
		env["DELIVERY"] = "signed"
		r := examine(t, env, true)
		r.wants(t,
			"ok uploadcare: a byte was stored, fetched and deleted", "ok cloudinary: a byte was stored, fetched and deleted",
			"warn uploadcare: a file can be fetched without a signature from "+env["UPLOADCARE_CDN_BASE"])
		r.wantsNone(t, "warn cloudinary")
		r.wantsNone(t, "token=")
	})
	t.Run("needs the secret that the CDN knows", func(t *testing.T) {
		env := surroundings(t)
		env["DELIVERY"], env["UPLOADCARE_CDN_SECRET"] = "signed", "00"
		switchOn(t, env["UPLOADCARE_REST_BASE"])
		r := examine(t, env, true)
		r.wants(t, "fail uploadcare: what was stored cannot be fetched: ", "403 Forbidden")
		r.wantsNone(t, "ok uploadcare: a byte was stored")
	})
}

// switchOn makes the simulated Uploadcare demand signatures.
func switchOn(t *testing.T, sim string) {
	t.Helper()
	resp, err := http.Post(sim+"/_sim/uploadcare/config", "application/json", strings.NewReader(`{"secure_delivery":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}
