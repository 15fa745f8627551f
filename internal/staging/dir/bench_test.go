package dir

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"slipway/internal/upload"
)

// BenchmarkSmall stages files of 64 KiB, 32 at a time, beside the same work done by hand.
func BenchmarkSmall(b *testing.B) {
	body := bytes.Repeat([]byte("slipway!"), 8<<10)
	b.Run("store", func(b *testing.B) {
		s := open(b)
		small(b, len(body), func() error {
			_, _, err := s.Append(b.Context(), upload.NewID(), 0, bytes.NewReader(body))
			return err
		})
	})
	b.Run("os", func(b *testing.B) {
		dir := b.TempDir()
		small(b, len(body), func() error {
			return plain(filepath.Join(dir, string(upload.NewID())), bytes.NewReader(body), nil)
		})
	})
}

func small(b *testing.B, size int, stage func() error) {
	b.SetBytes(int64(size))
	b.SetParallelism(32 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := stage(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkLarge stages 1 GiB that comes in 4 KiB reads, as a multipart part gives it.
func BenchmarkLarge(b *testing.B) {
	const size = 1 << 30
	b.Run("store", func(b *testing.B) {
		s := open(b)
		b.SetBytes(size)
		for b.Loop() {
			id := upload.NewID()
			if _, _, err := s.Append(b.Context(), id, 0, &part{size}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := s.Remove(b.Context(), id); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("os", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "file")
		buf := make([]byte, bufferSize)
		b.SetBytes(size)
		for b.Loop() {
			if err := plain(path, &part{size}, buf); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := os.Remove(path); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// plain is the yardstick: create, copy with a checksum, sync the file, sync its directory.
func plain(path string, r io.Reader, buf []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, sum)}, struct{ io.Reader }{r}, buf)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// part gives the rest of its bytes 4 KiB at a time.
type part struct{ rest int64 }

func (p *part) Read(b []byte) (int, error) {
	if p.rest == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), 4<<10, p.rest)
	p.rest -= n
	return int(n), nil
}

func open(b *testing.B) *Store {
	s, err := New(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Claim(b.Context(), "bench"); err != nil {
		b.Fatal(err)
	}
	return s
}
