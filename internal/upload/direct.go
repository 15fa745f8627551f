package upload

import "time"

const (
	// SignatureLife is how long after it was handed out a signature for a direct upload is good for.
	// Cloudinary counts it from the signed timestamp ("Generating authentication signatures").
	SignatureLife = time.Hour
	// ReservationLife is how long a reserved upload waits for its owner to say that the file is there:
	// the signature's hour, and another for a file that was begun in it.
	ReservationLife = 2 * SignatureLife
	// HandoutMemory is how long it is remembered to whom signatures were handed out, and with it how
	// long an asset whose name was not reserved may wait to be claimed.
	HandoutMemory = 24 * time.Hour
	// ClockSlack is how far a provider's clock may be from ours where times of both are compared.
	ClockSlack = time.Minute
)

// VerifyArgs is the job that asks a provider about a file which its owner's browser sent there. It
// carries only the id: the row says what is to be asked, and names the only job that may.
type VerifyArgs struct {
	UploadID ID `json:"upload_id"`
}

// Kind names the job in River's table.
func (VerifyArgs) Kind() string { return "verify" }

// VerifyQueue is a provider's lane for questions, where no file is ahead of them.
func VerifyQueue(provider string) string { return provider + "_verify" }

// Untitled is the file name of an upload whose file nobody has named yet.
const Untitled = "untitled"
