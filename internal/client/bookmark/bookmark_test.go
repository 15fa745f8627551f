package bookmark

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/client"
)

func never(t *testing.T) func() {
	return func() { t.Error("it waits") }
}

func shelf(t *testing.T) *Shelf {
	t.Helper()
	s, err := open(filepath.Join(t.TempDir(), "slipway", "put"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Shelf) take(t *testing.T, path string) *Bookmark {
	t.Helper()
	b, err := s.Take(t.Context(), "me", path, never(t))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *Bookmark) keep(t *testing.T, key string) {
	t.Helper()
	if err := b.Keep(Entry{Mark: client.Mark{Key: key, Received: 7}, File: File{10, 20}, Options: "x"}); err != nil {
		t.Fatal(err)
	}
}

func (b *Bookmark) want(t *testing.T, key string) {
	t.Helper()
	if e, ok := b.Entry(); ok != (key != "") || e.Key != key || ok && (e.Received != 7 || e.File != File{10, 20} || e.Options != "x") {
		t.Errorf("the entry is %+v, want that of %q", e, key)
	}
}

func TestAnEntryIsKeptForWhoComesNext(t *testing.T) {
	s := shelf(t)
	b := s.take(t, "/a")
	b.want(t, "")
	b.keep(t, "one")
	b.keep(t, "two")
	b.want(t, "two")
	b.Close()
	s.take(t, "/a").want(t, "two")
	s.take(t, "/b").want(t, "")
	other, err := s.Take(t.Context(), "another", "/a", never(t))
	if err != nil {
		t.Fatal(err)
	}
	other.want(t, "")
}

func TestOneAtATimeHasAPlace(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func(*Bookmark)
		want  string
	}{
		"who leaves hands on what it was sending": {func(*Bookmark) {}, "one"},
		"also when it is done":                    {func(b *Bookmark) { b.Remove() }, "one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := shelf(t)
			first := s.take(t, "/a")
			first.keep(t, "one")
			second, err := s.Take(t.Context(), "me", "/a", func() {
				time.AfterFunc(3*lookAgain, func() {
					tt.leave(first)
					first.Close()
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			second.want(t, tt.want)
			ctx, cancel := context.WithCancel(t.Context())
			if _, err := s.Take(ctx, "me", "/a", cancel); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v while it was taken", err)
			}
			second.keep(t, "two")
			second.Close()
			s.take(t, "/a").want(t, "two")
		})
	}
}

func TestWhatIsDamagedIsNoEntry(t *testing.T) {
	for _, text := range []string{"", "{", "null", `{"key":""}`, `{"key":1}`} {
		s := shelf(t)
		b := s.take(t, "/a")
		b.keep(t, "one")
		b.Close()
		if err := os.WriteFile(b.path+ending, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.take(t, "/a").want(t, "")
	}
}

func TestOldBookmarksGo(t *testing.T) {
	s := shelf(t)
	left := func() (names []string) {
		entries, err := os.ReadDir(s.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	old := s.take(t, "/old")
	old.keep(t, "old")
	old.Close()
	bare := s.take(t, "/bare")
	bare.Close()
	held := s.take(t, "/held")
	held.keep(t, "held")
	defer held.Close()
	if _, err := open(s.dir, time.Now().Add(keptFor-time.Minute)); err != nil || len(left()) != 5 {
		t.Fatalf("a minute before their time there are %v, %v", left(), err)
	}
	long := time.Now().Add(-keptFor)
	young := s.take(t, "/young")
	young.keep(t, "young")
	young.Close()
	if err := os.Chtimes(young.path+lockEnding, long, long); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{old.path + ending, old.path + lockEnding, bare.path + lockEnding, held.path + ending, held.path + lockEnding} {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(s.dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	names := strings.Join(left(), " ")
	for b, want := range map[*Bookmark]bool{old: false, bare: false, held: true, young: true} {
		if strings.Contains(names, filepath.Base(b.path)) != want {
			t.Errorf("%s is left: %t, among %s", b.path, !want, names)
		}
	}
	s.take(t, "/young").want(t, "young")
}
