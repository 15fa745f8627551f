package config

import (
	"os"
	"strings"
	"testing"

	"github.com/caarlos0/env/v11"
)

// The files that users copy and run name every setting, and say what is true.
func TestTheExampleNamesEverySettingAndDefault(t *testing.T) {
	b, err := os.ReadFile("../../.env.example")
	if err != nil {
		t.Fatal(err)
	}
	params, err := env.GetFieldParams(new(Config))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range params {
		if p.Ignored {
			continue
		}
		if want := "\n#" + p.Key + "=" + p.DefaultValue + "\n"; p.HasDefaultValue && !strings.Contains(string(b), want) {
			t.Errorf("%s is not in .env.example", strings.TrimSpace(want))
		} else if !strings.Contains(string(b), "\n"+p.Key+"=") && !strings.Contains(string(b), "\n#"+p.Key+"=") {
			t.Errorf("%s is not in .env.example", p.Key)
		}
	}
}

func TestTheExampleIsUnderstood(t *testing.T) {
	wantFaults(t, Options{DotEnv: "../../.env.example", RequireDotEnv: true, Need: NeedAPI | NeedWorker},
		"UPLOADCARE_PUBLIC_KEY is still the guide's placeholder", "UPLOADCARE_SECRET_KEY is still", "CLOUDINARY_CLOUD_NAME is still",
		"CLOUDINARY_API_KEY is still", "CLOUDINARY_API_SECRET is still", "DATABASE_URL is still")
}

func TestTheSimulatorsFileIsComplete(t *testing.T) {
	c := mustLoad(t, Options{DotEnv: "../../simulators.env", RequireDotEnv: true, Need: NeedAPI | NeedWorker, Environ: []string{"INSECURE_DEV=on"}})
	if len(c.Delivery.Providers) != 2 || c.Delivery.DefaultProvider != "uploadcare" {
		t.Errorf("providers = %q, %q, want both and uploadcare", c.Delivery.Providers, c.Delivery.DefaultProvider)
	}
}
