package auth

import "time"

// Hurry lets a test wait less than an operator would.
func (s *KeySet) Hurry(pause, fetch time.Duration) {
	s.pace = pace{every: time.Hour, pause: pause, start: 20 * time.Millisecond, retry: 50 * time.Millisecond, fetch: fetch, request: time.Second}
}

// StaySecure is how a key set follows redirects.
var StaySecure = staySecure
