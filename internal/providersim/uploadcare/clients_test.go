package uploadcare

import (
	"testing"

	"slipway/internal/providersim/clients"
)

func TestTheVendorsJavaScriptClientsAreSatisfied(t *testing.T) {
	sim := begin(t, t.TempDir(), Config{})
	clients.Run(t, "uploadcare.mjs", "SIM_URL="+sim.URL, "PUBLIC_KEY="+testPublicKey, "SECRET_KEY="+testSecretKey)
}
