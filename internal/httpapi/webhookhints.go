package httpapi

import (
	"encoding/json"
	"errors"

	"github.com/google/uuid"

	"slipway/internal/upload"
)

// readNotice reads a notification's JSON. Members of other types than are known are as if they were not there:
// what is not understood is no reason to have it repeated.
func readNotice(body []byte, v any) error {
	if err := shallow(body); err != nil {
		return err
	}
	var odd *json.UnmarshalTypeError
	if err := json.Unmarshal(body, v); err != nil && !errors.As(err, &odd) {
		return &upload.Error{Code: upload.InvalidRequest, Cause: err, Message: "The body cannot be read as JSON."}
	}
	return nil
}

// uploadcareHints is what a notification of Uploadcare's says (REST API reference, "Webhook callbacks").
// Of an event that is not known it is nothing.
func uploadcareHints(body []byte) ([]upload.HintArgs, error) {
	var n struct {
		Hook struct {
			Event string `json:"event"`
		} `json:"hook"`
		Data struct {
			UUID     string `json:"uuid"`
			Metadata struct {
				Upload string `json:"slipway_upload"` // sign.Mark
			} `json:"metadata"`
		} `json:"data"`
	}
	if err := readNotice(body, &n); err != nil {
		return nil, err
	}
	news, ok := map[string]upload.News{
		"file.uploaded": upload.Arrived, "file.stored": upload.Arrived,
		"file.info_updated": upload.Altered, "file.infected": upload.Altered,
		"file.deleted": upload.Removed,
	}[n.Hook.Event]
	if !ok || !plausibleFileID(n.Data.UUID) {
		return nil, nil
	}
	h := upload.HintArgs{Provider: uploadcareName, AssetID: n.Data.UUID, News: news}
	if id, err := upload.ParseID(n.Data.Metadata.Upload); err == nil {
		h.Sent = id
	}
	return []upload.HintArgs{h}, nil
}

// plausibleFileID tells whether Uploadcare could have given a file this id.
func plausibleFileID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}

// cloudinaryAsset is what a notification says of one asset.
type cloudinaryAsset struct {
	PublicID string `json:"public_id"`
	Version  int64  `json:"version"`
}

// cloudinaryHints is what a notification of Cloudinary's says (guide "Webhook notifications"). Of a type that
// says nothing of what is recorded here, such as "eager", it is nothing.
func cloudinaryHints(body []byte) ([]upload.HintArgs, error) {
	var n struct {
		Type string `json:"notification_type"`
		cloudinaryAsset
		Resources []cloudinaryAsset `json:"resources"`
	}
	if err := readNotice(body, &n); err != nil {
		return nil, err
	}
	news, ok := map[string]upload.News{
		"upload": upload.Arrived, "resource_tags_changed": upload.Altered, "delete": upload.Removed,
	}[n.Type]
	if !ok {
		return nil, nil
	}
	var hints []upload.HintArgs
	seen := map[string]bool{}
	for _, a := range append(n.Resources, n.cloudinaryAsset) {
		if a.PublicID == "" || !plausiblePublicID(a.PublicID) || seen[a.PublicID] {
			continue
		}
		seen[a.PublicID] = true
		h := upload.HintArgs{Provider: cloudinaryName, AssetID: a.PublicID, News: news}
		if news == upload.Arrived {
			h.Version = a.Version
		}
		hints = append(hints, h)
	}
	return hints, nil
}
