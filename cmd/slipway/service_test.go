package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhoSaysWhereTheServiceIs(t *testing.T) {
	answer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"status":401,"code":"unauthorized","detail":"You sent %s."}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(answer.Close)
	nobody := httptest.NewServer(nil)
	nobody.Close()
	here, away := "SLIPWAY_URL="+answer.URL+"\n", "SLIPWAY_URL="+nobody.URL+"\n"
	tests := map[string]struct {
		url, token  string // of the environment
		env, devEnv string // of the folder
		want        string
	}{
		"a folder's .env says both":                   {env: here + "SLIPWAY_TOKEN=mine\n", devEnv: away, want: "You sent Bearer mine."},
		"a token of the environment goes before that": {token: "t0ken", env: here + "SLIPWAY_TOKEN=mine\n", want: "You sent Bearer t0ken."},
		"a .env may say other things":                 {env: "DATABASE_URL='postgres://a:$b@host/db'\n", devEnv: here, want: "You sent ."},
		"a token in a file goes where the file says":  {url: answer.URL, env: away + "SLIPWAY_TOKEN=mine\n", want: "You sent ."},
		"a token of the environment does not leave":   {token: "t0ken", env: "SLIPWAY_URL=https://elsewhere.example\n", want: "SLIPWAY_TOKEN of the environment does not go to the address in .env"},
		"a .env that cannot be read":                  {env: "SLIPWAY_URL='", want: ".env cannot be read; set SLIPWAY_URL"},
		"nobody where the environment says":           {url: nobody.URL, want: "The address is from SLIPWAY_URL. Is Slipway running?"},
		"nobody where a .env says":                    {env: away, want: "The address is from .env. Is Slipway running?"},
		"nobody where the stack in the folder was":    {devEnv: away, want: "no answer from " + nobody.URL + ": "},
		"whose address that was":                      {devEnv: away, want: "The address is from .slipway/dev.env. Is Slipway running?"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			folder(t)
			t.Setenv("SLIPWAY_URL", tt.url)
			t.Setenv("SLIPWAY_TOKEN", tt.token)
			for file, text := range map[string]string{dotEnv: tt.env, devEnv: tt.devEnv} {
				if text != "" {
					write(t, file, text)
				}
			}
			for _, args := range [][]string{{"list"}, {"watch"}} {
				if r := slipway(t.Context(), args...); r.err == nil || !strings.Contains(r.stderr+r.err.Error(), tt.want) {
					t.Errorf("%s: %+v, want %q", args[0], r, tt.want)
				}
			}
		})
	}
}
