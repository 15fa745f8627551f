package devstack

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Env is what a process needs to know to use the simulators as its providers.
func (s *Simulators) Env() map[string]string {
	return map[string]string{
		"UPLOADCARE_PUBLIC_KEY": simPublicKey, "UPLOADCARE_SECRET_KEY": simSecretKey,
		"UPLOADCARE_UPLOAD_BASE": s.URL, "UPLOADCARE_REST_BASE": s.URL, "UPLOADCARE_CDN_BASE": s.URL, "UPLOADCARE_CDN_SECRET": simCDNSecret,
		"UPLOADCARE_WEBHOOK_SECRET": simHookSecret,
		"CLOUDINARY_CLOUD_NAME":     simCloudName, "CLOUDINARY_API_KEY": simAPIKey, "CLOUDINARY_API_SECRET": simAPISecret,
		"CLOUDINARY_UPLOAD_PREFIX": s.URL, "CLOUDINARY_DELIVERY_BASE": s.URL,
	}
}

// namesAccount tells whether an account of any provider is given.
func namesAccount(env map[string]string) bool {
	for name, value := range env {
		if value != "" && (strings.HasPrefix(name, "UPLOADCARE_") || strings.HasPrefix(name, "CLOUDINARY_")) {
			return true
		}
	}
	return false
}

func pairs(env map[string]string) []string {
	var out []string
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	return out
}

// writeEnv writes variables so that a shell reads them back as they are. The file holds passwords.
func writeEnv(path string, env map[string]string) error {
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"='"+strings.ReplaceAll(value, "'", `'\''`)+"'\n")
	}
	slices.Sort(lines)
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(strings.Join(lines, "")), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(tmp, path)
}
