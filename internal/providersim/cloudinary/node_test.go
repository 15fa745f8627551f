package cloudinary

import (
	"strings"
	"testing"

	"slipway/internal/providersim/clients"
)

func TestNodeSDK(t *testing.T) {
	s := open(t, nil)
	out := clients.Run(t, "../cloudinary/testdata/client.mjs",
		"SIM_URL="+s.url,
		"CLOUDINARY_URL=cloudinary://"+testKey+":"+testSecret+"@"+testCloud+"?upload_prefix="+s.url)
	if !strings.Contains(out, "cases passed") {
		t.Errorf("the script did not come to its end:\n%s", out)
	}
}
