package uploadcare

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testPublicKey = "demopublickey"
	testSecretKey = "demosecretkey"
)

// start starts a simulator in dir; the test closes it.
func start(t *testing.T, dir string, c Config) *Running {
	t.Helper()
	sim, err := Start(Options{Dir: dir, PublicKey: testPublicKey, SecretKey: testSecretKey, Config: c}, "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return sim
}

// begin starts a simulator in dir, and closes it with the test.
func begin(t *testing.T, dir string, c Config) *Running {
	t.Helper()
	sim := start(t, dir, c)
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return sim
}
