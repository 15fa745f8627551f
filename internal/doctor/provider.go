package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"slipway/internal/crc32c"
	"slipway/internal/process"
	"slipway/internal/provider"
	"slipway/internal/provider/uploadcare/sign"
	"slipway/internal/upload"
)

// account is what a person has to know of a provider to mend its settings.
type account struct {
	delivery string // where its files are fetched
	cdn      string // the setting for that
	keys     string // where the right ones are
	limit    string // what to do where no limit is known; "" if the account tells it
}

func (e *exam) account(name string) account {
	c := e.Config
	if name == "uploadcare" {
		a := account{
			delivery: c.Uploadcare.CDNBase, cdn: "UPLOADCARE_CDN_BASE",
			keys:  "copy both keys again from your project in the Uploadcare dashboard, section API Keys",
			limit: "set UPLOADCARE_MAX_FILE_SIZE to your plan's, so that a file too large is refused before it is received",
		}
		if a.delivery == "" {
			a.delivery = "https://" + sign.CDNHost(c.Uploadcare.PublicKey)
		}
		return a
	}
	return account{
		delivery: cmp.Or(c.Cloudinary.DeliveryBase, "https://res.cloudinary.com") + "/" + c.Cloudinary.CloudName + "/",
		cdn:      "CLOUDINARY_DELIVERY_BASE",
		keys:     "copy cloud name, API key and API secret again from your Cloudinary account's settings, Product Environment Credentials",
	}
}

func (e *exam) providers(ctx context.Context) {
	for _, name := range e.Config.Delivery.Providers {
		one := *e.Config
		one.Delivery.Providers = []string{name}
		opened, err := process.Providers(&one)
		if err != nil {
			if !e.faultyAccount(name) {
				e.fail(name, "see its settings", "it cannot be set up: %v", err)
			}
			continue
		}
		for _, p := range opened {
			e.provider(ctx, p)
		}
	}
}

// faultyAccount tells whether one of the provider's settings has a fault.
func (e *exam) faultyAccount(name string) bool {
	for _, f := range e.Faults {
		if strings.HasPrefix(f.Variable, strings.ToUpper(name)+"_") {
			return true
		}
	}
	return false
}

func (e *exam) provider(ctx context.Context, p provider.Provider) {
	name, a := p.Name(), e.account(p.Name())
	if why := e.paused[name]; why != "" {
		e.warn(name, "mend what it says; the uploads go on by themselves", "%s", why)
	}
	if e.faultyAccount(name) {
		return // its keys are not what it could be asked with
	}
	if !e.keys(ctx, p, a) {
		return
	}
	if err := e.answers(ctx, a.delivery); err != nil {
		e.fail(name, "see to it that this machine may reach it, or name the right host in "+a.cdn, "%s, where its files are fetched, does not answer: %v", a.delivery, err)
	} else {
		e.ok(name, "%s, where its files are fetched, answers", a.delivery)
	}
	if e.Write {
		e.roundTrip(ctx, p)
	}
}

// keys tells whether the account can be used, and what it takes.
func (e *exam) keys(ctx context.Context, p provider.Provider, a account) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	err := p.Check(ctx)
	var refused *provider.Error
	switch {
	case errors.As(err, &refused) && refused.Verdict == provider.Account:
		e.fail(p.Name(), a.keys, "it refuses the account: %v", reason(err))
	case err != nil:
		e.fail(p.Name(), "see to it that this machine may reach it, and look at its status page", "it cannot be asked: %v", reason(err))
	default:
		limits := cmp.Or(limits(p.Capabilities()), "how large a file may be is not known: "+a.limit)
		e.ok(p.Name(), "the keys are good; %s", limits)
	}
	return err == nil
}

// limits are the most that one file may have, in words; "" when nothing is known.
func limits(c provider.Capabilities) string {
	var parts []string
	for _, rt := range []upload.ResourceType{upload.Image, upload.Video, upload.Raw} {
		if n := c.Limit(rt); n > 0 {
			parts = append(parts, fmt.Sprintf("%s up to %s", rt, humanize.IBytes(uint64(n))))
		}
	}
	return strings.Join(parts, ", ")
}

// roundTrip sends one byte, reads it where the world would, and deletes it.
func (e *exam) roundTrip(ctx context.Context, p provider.Provider) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	content := []byte("!")
	id := upload.NewID()
	src := provider.Source{
		UploadID: id, Key: cmp.Or(e.installation, "slipway-doctor") + "/" + string(id),
		FileName: "slipway-doctor.txt", ContentType: "text/plain", ResourceType: upload.Raw,
		Size: int64(len(content)), CRC32C: crc32c.Update(0, content), Body: bytes.NewReader(content),
	}
	asset, err := e.push(ctx, p, src)
	if err != nil {
		e.fail(p.Name(), "see what the account and its keys may do", "a byte could not be stored: %v", reason(err))
	} else if err = e.readBack(ctx, p.Name(), *asset, content); err != nil {
		e.fail(p.Name(), "see the delivery settings of the account, and "+e.account(p.Name()).cdn, "what was stored cannot be fetched: %v", reason(err))
	}
	if asset == nil {
		return
	}
	clean, stop := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer stop()
	if err := p.Delete(clean, *asset); err != nil {
		e.fail(p.Name(), "delete slipway-doctor.txt there by hand", "what was stored for a trial could not be deleted: %v", reason(err))
		return
	}
	if err == nil {
		e.ok(p.Name(), "a byte was stored, fetched and deleted in %s", round(time.Since(began)))
	}
}

// push sends src as a worker does. An asset beside an error is what may be left of it.
func (e *exam) push(ctx context.Context, p provider.Provider, src provider.Source) (*upload.Asset, error) {
	s, err := p.Begin(ctx, src)
	if err != nil {
		return nil, err
	}
	part, err := p.PushPart(ctx, s, src, 0, nil)
	if err != nil {
		left, _ := p.Lookup(ctx, s, src, nil) // the first error says more
		return left, err
	}
	asset := part.Asset
	if asset == nil {
		parts := []provider.Part{part}
		done, err := p.Complete(ctx, s, src, parts)
		if err != nil {
			left, _ := p.Lookup(ctx, s, src, parts)
			return left, err
		}
		asset = &done
	}
	stored, err := p.Commit(ctx, src, *asset)
	if err != nil {
		return asset, err
	}
	return &stored, nil
}

// readBackWaits are how long a delivery network is given to know a new file.
var readBackWaits = []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// readBack fetches an asset by the link that its owner would get, and where that is signed tries to without.
func (e *exam) readBack(ctx context.Context, name string, asset upload.Asset, want []byte) error {
	to, err := process.Links(e.Config)[name].Link(asset, provider.Transform{}, time.Now())
	if err != nil {
		return err
	}
	if err := e.await(ctx, to.URL, want); err != nil || !to.Signed {
		return err
	}
	if _, err := e.fetch(ctx, asset.URL); err == nil {
		e.warn(name, "in Uploadcare's dashboard, Settings, Delivery, disable the public subdomain and ucarecdn.com",
			"a file can be fetched without a signature from %s, although DELIVERY is signed", asset.URL)
	}
	return nil
}

func (e *exam) await(ctx context.Context, url string, want []byte) (err error) {
	for _, wait := range readBackWaits {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		var got []byte
		if got, err = e.fetch(ctx, url); err == nil {
			if slices.Equal(got, want) {
				return nil
			}
			err = errors.New("it is not what was sent")
		}
	}
	return err
}

func (e *exam) fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", req.URL.Host, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<10))
}
