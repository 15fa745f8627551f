package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"slipway/internal/postgres"
	"slipway/internal/upload"
)

const (
	// keyLease is how long a key is held by a request of which nothing is heard. Bytes renew it.
	keyLease = 30 * time.Second
	// KeyTTL is how long a key is remembered where nothing else is set.
	KeyTTL = 24 * time.Hour
)

// Call is a request that makes an upload, with the key that its sender has given it (Idempotency-Key,
// draft-ietf-httpapi-idempotency-key-header-07) and all that tells it from other requests (section 2.4 there): what
// is known of it before its bytes.
type Call struct {
	User     string
	Key      string
	Route    string
	Provider string
	FileName string
	Source   string // what the file is made of when that does not come with the request: an address, or pieces
	Digest   Digest
	Length   int64 // bytes of the file or of the body as declared, -1 when they were not
	Boundary int   // bytes of what parts a form, 0 where there is none
}

// fingerprint is of what has to be the same when a request is sent again. The length is compared by itself.
func (c Call) fingerprint() []byte {
	h := sha256.New()
	for _, part := range [][]byte{
		[]byte(c.Route), []byte(c.Provider), []byte(c.FileName), []byte(c.Source), c.Digest.SHA256, c.Digest.CRC32C,
	} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return h.Sum(nil)
}

// Key is the right to make the upload of a Call. It ends when the upload is there, with Free, or, when its process
// dies, with its lease; whoever sends the Call again then takes it over, and the older holder can make nothing any
// more. A nil Key is that of a request that has none. One goroutine uses it.
type Key struct {
	in     *Ingest
	claim  postgres.IdempotencyKey
	renew  time.Duration // how long a lease is left as it is
	lease  time.Duration
	ttl    time.Duration
	heard  time.Time // when the lease was last renewed
	closed bool      // there is nothing to let go of any more
}

// Claim takes a call's key, or returns the upload that was made with it. Errors: KeyReused where the key is another
// call's; KeyInFlight while the upload is being made; Gone when it is not there any more.
func (in *Ingest) Claim(ctx context.Context, c Call) (*Key, *upload.Upload, error) {
	k := &Key{
		in: in,
		claim: postgres.IdempotencyKey{
			User: c.User, Key: c.Key, Fingerprint: c.fingerprint(), Length: c.Length, Boundary: c.Boundary, Upload: upload.NewID(),
		},
		lease: cmp.Or(in.KeyLease, keyLease), ttl: cmp.Or(in.KeyTTL, KeyTTL),
	}
	k.renew, k.heard = k.lease/3, time.Now()
	var found postgres.KeyClaim
	err := postgres.Once(ctx,
		func(ctx context.Context) (err error) {
			found, err = postgres.ClaimKey(ctx, in.Pool, k.claim, k.lease, k.ttl)
			return err
		},
		func(context.Context) (bool, error) { return false, nil }) // is harmless when done twice
	switch {
	case err != nil:
		return nil, nil, unavailable(err)
	case found.Other:
		return nil, nil, &upload.Error{Code: upload.KeyReused, FixableBy: upload.ByYou,
			Message: "Another request has this Idempotency-Key: one that went elsewhere, or with a file of another name, length, digest or provider. Give each file a key of its own."}
	case found.Made != nil:
		return nil, found.Made, nil
	case found.Final:
		return nil, nil, &upload.Error{Code: upload.Gone, Message: "The upload that was made with this Idempotency-Key is not there any more."}
	case found.Holder != "":
		return nil, nil, errKeyInFlight("A request with this Idempotency-Key is still being answered. Send it again in a moment, with the same key.")
	}
	if found.Dead != "" {
		k.bury(found.Dead)
	}
	return k, nil, nil
}

func errKeyInFlight(message string) error {
	return &upload.Error{Code: upload.KeyInFlight, Retryable: true, Message: message}
}

var errKeyTaken = errKeyInFlight("Nothing was heard of this request for so long that another with the same Idempotency-Key has taken its place. Send it again, with the same key, to see what came of it.")

// bury lets go of what a holder has left behind whom this key was taken over from. It can make no upload any more.
func (k *Key) bury(dead upload.ID) {
	k.in.Log.Info("a request takes over the idempotency key of a lost one", "upload_id", k.claim.Upload, "lost", dead)
	k.in.remove(dead)
	k.ask("let go of room that was held", func(ctx context.Context) error { return postgres.Release(ctx, k.in.Pool, dead) })
}

// ID is what the upload has to be called that is made with k.
func (k *Key) ID() upload.ID {
	if k == nil {
		return upload.NewID()
	}
	return k.claim.Upload
}

// Within is body, whose reading keeps the key. It ends with KeyInFlight when another request has taken the key over.
func (k *Key) Within(body io.Reader) io.Reader {
	if k == nil {
		return body
	}
	return keeping{k, body}
}

type keeping struct {
	*Key
	body io.Reader
}

func (b keeping) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if time.Since(b.heard) < b.renew || err != nil && err != io.EOF {
		return n, err
	}
	b.heard = time.Now()
	var kept error
	b.ask("keep an idempotency key", func(ctx context.Context) error {
		kept = postgres.KeepKey(ctx, b.in.Pool, b.claim, b.lease, b.ttl)
		if errors.Is(kept, postgres.ErrKeyTaken) {
			return nil
		}
		return kept
	})
	if errors.Is(kept, postgres.ErrKeyTaken) {
		return 0, errKeyTaken
	}
	return n, err
}

// queueFinish says, together with the beginning of the transaction that makes the upload, that it was made with k. The
// transaction's error is for taken; where another request has taken k over, the upload is not made.
func (k *Key) queueFinish(b *pgx.Batch) {
	if k != nil {
		postgres.QueueFinishKey(b, k.claim, k.ttl)
	}
}

// taken is what a sender is told whose key another has.
func taken(err error) error {
	if errors.Is(err, postgres.ErrKeyTaken) {
		return errKeyTaken
	}
	return err
}

// Free lets go of the key at once: nothing is going to be made with it. It may be called more than once.
func (k *Key) Free() {
	if k == nil || k.closed {
		return
	}
	k.closed = true
	k.ask("let go of an idempotency key", func(ctx context.Context) error { return postgres.FreeKey(ctx, k.in.Pool, k.claim) })
}

// askBriefly is for what is asked while bytes wait.
const askBriefly = 2 * time.Second

// ask asks the database what is not worth an error: the lease makes up for it.
func (k *Key) ask(what string, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), askBriefly)
	defer cancel()
	if err := f(ctx); err != nil {
		k.in.Log.Warn(what, "upload_id", k.claim.Upload, "error", err)
	}
}
