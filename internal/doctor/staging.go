package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"slipway/internal/staging/dir"
)

const stagingPart = "staging"

// slowSync is from when on a sync takes so long that small files feel it.
const slowSync = 50 * time.Millisecond

func (e *exam) staging(ctx context.Context) {
	c := e.Config.Staging
	if c.Dir == "" || e.faulty("STAGING_DIR", "STAGING_RESERVE") {
		return
	}
	path, err := filepath.Abs(c.Dir)
	if err != nil {
		path = c.Dir
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.unmade(path)
		return
	case err != nil:
		e.fail(stagingPart, "give this user the right to it, or name another folder in STAGING_DIR", "%s cannot be looked at: %v", path, reasonOfFile(err))
		return
	case !info.IsDir():
		e.fail(stagingPart, "name a folder in STAGING_DIR", "%s is no folder", path)
		return
	}
	took, err := syncTime(path)
	if err != nil {
		e.fail(stagingPart, "give the user that runs Slipway the right to write there, or name another folder in STAGING_DIR", "%s cannot be written: %v", path, reasonOfFile(err))
		return
	}
	if took > slowSync {
		e.warn(stagingPart, "put it on a local disk: each upload waits for it", "%s takes %s to make a write durable", path, round(took))
	} else {
		e.ok(stagingPart, "%s is writable; a write is durable after %s", path, round(took))
	}
	e.room(ctx, path)
	e.owner(path)
}

// unmade judges a folder that the first start will make.
func (e *exam) unmade(path string) {
	if e.stagingID != "" {
		e.fail(stagingPart, "set STAGING_DIR to the folder that the uploads were received into, or mount its volume", "%s is not there, and uploads in the database rest in it", path)
		return
	}
	parent := filepath.Dir(path)
	for parent != filepath.Dir(parent) {
		if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		parent = filepath.Dir(parent)
	}
	probe, err := os.MkdirTemp(parent, ".slipway-doctor-")
	if err == nil {
		err = os.Remove(probe)
	}
	if err != nil {
		e.fail(stagingPart, "make it for the user that runs Slipway, or name another folder in STAGING_DIR", "%s is not there and cannot be made: %v", path, reasonOfFile(err))
		return
	}
	e.ok(stagingPart, "%s is not there yet; the first start makes it", path)
}

// syncTime is how long it takes until a small write is durable: the median of some.
func syncTime(path string) (_ time.Duration, err error) {
	const tries, block = 7, 4 << 10
	f, err := os.CreateTemp(path, ".slipway-doctor-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	b := make([]byte, block)
	var took []time.Duration
	for range tries {
		_, _ = rand.Read(b) // never fails
		began := time.Now()
		if _, err := f.Write(b); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[tries/2], nil
}

func (e *exam) room(ctx context.Context, path string) {
	c := e.Config
	reserve := humanize.IBytes(uint64(max(c.Staging.Reserve, 0)))
	store, err := dir.New(path, dir.Options{Reserve: c.Staging.Reserve})
	if err != nil {
		e.fail(stagingPart, "give this user the right to it", "%s cannot be opened: %v", path, reasonOfFile(err))
		return
	}
	free, err := store.Free(ctx)
	if err != nil {
		e.fail(stagingPart, "see to the disk", "the room at %s cannot be asked: %v", path, reasonOfFile(err))
		return
	}
	room := humanize.IBytes(uint64(max(free, 0)))
	switch {
	case free == 0:
		e.fail(stagingPart, "make room, or make STAGING_RESERVE smaller", "there is no room beside the reserve of %s; every upload will be refused", reserve)
	case free < c.HTTP.MaxUploadBytes:
		e.warn(stagingPart, "make room, or make MAX_UPLOAD_BYTES smaller", "there is room for %s beside the reserve of %s, less than for one file of %s, which is the limit",
			room, reserve, humanize.IBytes(uint64(c.HTTP.MaxUploadBytes)))
	default:
		e.ok(stagingPart, "there is room for %s beside the reserve of %s", room, reserve)
	}
	if c.Staging.Budget > 0 {
		e.budget(free)
	}
}

// budget judges what of the disk may be used, which has so many bytes free.
func (e *exam) budget(free int64) {
	const size = "STAGING_BUDGET of %s"
	budget := e.Config.Staging.Budget
	bytes := func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
	if most := e.Config.HTTP.MaxUploadBytes; budget < most {
		e.warn(stagingPart, "make STAGING_BUDGET larger, or MAX_UPLOAD_BYTES smaller", "files beyond the "+size+" are refused, although MAX_UPLOAD_BYTES is %s", bytes(budget), bytes(most))
	}
	if e.used == nil {
		return
	}
	used := e.used.Staged + e.used.Held
	sum := fmt.Sprintf("%s of the "+size+" are used: %s staged, %s for what is coming in", bytes(used), bytes(budget), bytes(e.used.Staged), bytes(e.used.Held))
	switch {
	case used > budget/10*9 || e.used.Waiting > 0:
		e.warn(stagingPart, "see what does not leave (`slipway list`), or make STAGING_BUDGET larger", "%s; %d files are refused for the moment", sum, e.used.Waiting)
	case free+e.used.Staged < budget:
		e.warn(stagingPart, "make room on the disk, or make STAGING_BUDGET smaller", "the disk has less than the "+size, bytes(budget))
	default:
		e.ok(stagingPart, "%s", sum)
	}
}

// owner compares what the folder says of itself with what the database knows.
func (e *exam) owner(path string) {
	installation, id, err := dir.Owner(path)
	switch {
	case err != nil:
		e.fail(stagingPart, "restore slipway.json in it from a backup", "%s does not tell whose it is: %v", path, reasonOfFile(err))
	case e.installation == "":
		// the database, which could say, cannot be asked
	case installation != "" && installation != e.installation:
		e.fail(stagingPart, "set STAGING_DIR to this installation's folder", "%s belongs to installation %s, not to %s", path, installation, e.installation)
	case e.stagingID == "" && id == "":
		e.ok(stagingPart, "it is nobody's yet; the first start makes it this installation's")
	case e.stagingID == "":
		e.ok(stagingPart, "it is this installation's; the next start tells the database")
	case id != e.stagingID:
		e.fail(stagingPart, "set STAGING_DIR to that one, or mount its volume", "%s is not the folder that the uploads in the database were received into (here: %s, known: %s)",
			path, orNone(id), e.stagingID)
	default:
		e.ok(stagingPart, "it is the folder that the database knows (%s)", id)
	}
}

func orNone(id string) string {
	if id == "" {
		return "no id"
	}
	return id
}

// reasonOfFile is an error of the file system without the operation and the path, which the line names.
func reasonOfFile(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Errorf("%w", p.Err)
	}
	return err
}
