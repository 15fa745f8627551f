package cloudinary

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"

	"slipway/internal/provider"
	"slipway/internal/upload"
)

// The delivery types that we send, part of an asset's identity.
const (
	deliveryType  = "upload"        // anybody can fetch it
	authenticated = "authenticated" // only by a signed address, and so too whatever is derived from it
)

// sessionTTL is for how long chunks are relied on. Cloudinary does not say how long it keeps an
// unfinished upload.
const sessionTTL = 24 * time.Hour

// target is what a session's State holds: the identity of the asset, decided before its first byte.
type target struct {
	PublicID     string              `json:"public_id"`
	ResourceType upload.ResourceType `json:"resource_type"`
	Type         string              `json:"type"`
}

// Begin opens a session without asking Cloudinary, which knows of one from its first chunk on.
func (p *Provider) Begin(_ context.Context, src provider.Source) (provider.Session, error) {
	switch src.ResourceType {
	case upload.Image, upload.Video, upload.Raw:
	default:
		return provider.Session{}, fmt.Errorf("cloudinary begin: resource type %q must be decided before the first byte", src.ResourceType)
	}
	t := target{PublicID: publicID(src), ResourceType: src.ResourceType, Type: deliveryType}
	if p.opt.Authenticated {
		t.Type = authenticated
	}
	state, err := json.Marshal(t)
	if err != nil {
		return provider.Session{}, fmt.Errorf("cloudinary begin: %w", err)
	}
	s := provider.Session{ID: rand.Text(), PartSize: p.opt.ChunkSize, Parts: 1, LastPartCompletes: true, State: state}
	if src.Size <= max(p.opt.ChunkSize, p.opt.PartsFrom[src.ResourceType]) {
		s.PartSize = max(s.PartSize, src.Size)
		return s, nil
	}
	s.Parts = int((src.Size + s.PartSize - 1) / s.PartSize)
	s.ExpiresAt = time.Now().Add(sessionTTL)
	return s, nil
}

func targetOf(s provider.Session) (target, error) {
	var t target
	if err := json.Unmarshal(s.State, &t); err != nil {
		return t, fmt.Errorf("cloudinary: state of session %s: %w", s.ID, err)
	}
	return t, nil
}

var extension = regexp.MustCompile(`^\.[a-z0-9]{1,16}$`)

// publicID names the asset of src, the same in every attempt. The id of a raw asset includes the
// extension, without which it would be delivered without a media type.
func publicID(src provider.Source) string {
	if src.ResourceType == upload.Raw {
		if ext := strings.ToLower(path.Ext(src.FileName)); extension.MatchString(ext) {
			return src.Key + ext
		}
	}
	return src.Key
}
