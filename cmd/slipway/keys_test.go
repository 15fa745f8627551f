package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ask is what the service answers to a request with these headers, "Name: value".
func (s *system) ask(t *testing.T, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestKeysAreMadeShownOnceAndRevoked(t *testing.T) {
	s := start(t)
	clearSettings(t)
	folder(t)
	for name, value := range s.env {
		t.Setenv(name, value)
	}
	made := slipway(t.Context(), "key", "create", "back end", "--days", "30")
	secret := strings.TrimSpace(made.stdout)
	if made.err != nil || !strings.HasPrefix(secret, "slk_") || strings.Contains(secret, "\n") || !strings.Contains(made.stderr, "It is shown only now") || strings.Contains(made.stderr, secret) {
		t.Fatalf("got %+v", made)
	}
	key := "Authorization: Bearer " + secret
	if status, text := s.ask(t, "POST", "/v1/tokens", `{"user_id":"alice"}`, key); status != http.StatusOK {
		t.Errorf("a new key gets %d %s", status, text)
	}

	listed := slipway(t.Context(), "key", "list", "--json")
	var k apiKey
	if err := json.Unmarshal([]byte(listed.stdout), &k); err != nil || k.Name != "back end" || k.State != "active" || k.Scopes[0] != "act" || k.Key != "" ||
		!strings.HasPrefix(secret, k.Prefix+"_") || strings.Contains(listed.stdout, secret) || k.LastUsedAt == nil || time.Until(*k.ExpiresAt) > 30*24*time.Hour {
		t.Errorf("the list is %+v, %v", listed, err)
	}

	for range 2 { // again it changes nothing
		if r := slipway(t.Context(), "key", "revoke", k.Prefix); r.err != nil || !strings.Contains(r.stdout, k.Prefix+" (back end) is revoked") {
			t.Errorf("got %+v", r)
		}
	}
	begun := time.Now()
	for status := 0; status != http.StatusUnauthorized; {
		if status, _ = s.ask(t, "POST", "/v1/tokens", `{"user_id":"alice"}`, key); time.Since(begun) > 5*time.Second {
			t.Fatalf("a revoked key still gets %d", status)
		}
	}
	if table := slipway(t.Context(), "key", "list"); !strings.HasPrefix(table.stdout, "PREFIX ") || !strings.Contains(table.stdout, "revoked") || strings.Contains(table.stdout, secret) {
		t.Errorf("the table is %+v", table)
	}
}

func TestKeysOfTheDevelopmentStackInThisFolder(t *testing.T) {
	s := start(t)
	clearSettings(t)
	folder(t)
	write(t, devEnv, "DATABASE_URL='"+s.env["DATABASE_URL"]+"'\n")
	r := slipway(t.Context(), "key", "create", "backend", "--scope", "admin,act", "--json")
	var k apiKey
	if err := json.Unmarshal([]byte(r.stdout), &k); err != nil || k.Key == "" || fmt.Sprint(k.Scopes) != "[act admin]" || k.ExpiresAt != nil {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestKeysThatCannotBeMade(t *testing.T) {
	clearSettings(t)
	folder(t)
	for want, args := range map[string][]string{
		`there is no scope "root"; there are act and admin`: {"create", "a", "--scope", "root"},
		"give a scope, and --days from 0":                   {"create", "a", "--days", "-1"},
		"a key's name has 1 to 100 bytes of text":           {"create", "a\nb"},
		"DATABASE_URL is not set":                           {"create", "a"},
	} {
		if r := slipway(t.Context(), append([]string{"key"}, args...)...); r.err == nil || !strings.HasPrefix(r.err.Error(), want) || r.stdout != "" {
			t.Errorf("%v: got %+v, want %s", args, r, want)
		}
	}
}
