package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/guides"
)

func (w *walk) uploadcareGuide(ctx context.Context) {
	r := reader{guide: "Uploadcare guide", user: "user_123", server: w.stack.URL, databaseURL: w.stack.DatabaseURL}
	w.step(r.guide, "create the table for file metadata", func() error { return execute(ctx, r.databaseURL, guides.UploadcareTable) })
	w.uploads(ctx, r)
}

// uploads tests the upload endpoint as the guide does, and returns the file's URL and Slipway's name for it.
func (w *walk) uploads(ctx context.Context, r reader) (fileURL, id string) {
	file, err := w.picture("my-image.png")
	if err != nil {
		w.step(r.guide, "make a picture", func() error { return err })
		return "", ""
	}
	var answer struct {
		Success bool   `json:"success"`
		FileURL string `json:"fileUrl"`
		ID      string `json:"id"`
	}
	w.step(r.guide, "test the upload endpoint with curl", func() error {
		err := w.shell(ctx, r.access, &answer, guides.UploadcareUpload, "http://localhost:3000", r.server, "/path/to/your/image.jpg", file)
		if err == nil && (!answer.Success || answer.FileURL == "") {
			err = fmt.Errorf("answered %+v", answer)
		}
		return err
	})
	w.step(r.guide, "file_url leads to the file", func() error { return opens(ctx, answer.FileURL, file) })
	w.step(r.guide, "access file metadata with the SELECT", func() error {
		urls, err := r.selects(ctx, guides.UploadcareSelect)
		return contains(urls, err, answer.FileURL)
	})
	return answer.FileURL, answer.ID
}

func (w *walk) cloudinaryGuide(ctx context.Context) {
	r := reader{guide: "Cloudinary guide", user: "user_123", server: w.stack.URL, databaseURL: w.stack.DatabaseURL}
	w.step(r.guide, "create the table for file metadata", func() error { return execute(ctx, r.databaseURL, guides.CloudinaryTable) })
	image := w.sendsToCloudinary(ctx, r, "image")
	w.step(r.guide, "transform: w_300,c_fill in media_url", func() error {
		return opens(ctx, strings.Replace(image.SecureURL, "/image/upload/", "/image/upload/w_300,c_fill/", 1), "")
	})
	w.sendsToCloudinary(ctx, r, "video")
}

// cloudinaryAsset is what the guide's reader takes from Cloudinary's answer to their server.
type cloudinaryAsset struct {
	PublicID     string `json:"public_id"`
	SecureURL    string `json:"secure_url"`
	ResourceType string `json:"resource_type"`
}

// sendsToCloudinary goes the guide's three steps, with a picture or a film.
func (w *walk) sendsToCloudinary(ctx context.Context, r reader, kind string) (asset cloudinaryAsset) {
	file, err := w.picture("test-image.png")
	if kind == "video" {
		file, err = w.film("test-video.mp4", 2<<20)
	}
	if err != nil {
		w.step(r.guide, "make a file", func() error { return err })
		return asset
	}
	var signed struct {
		Success   bool   `json:"success"`
		Signature string `json:"signature"`
		Timestamp int64  `json:"timestamp"`
		APIKey    string `json:"api_key"`
	}
	w.step(r.guide, "1. get signature and parameters ("+kind+")", func() error {
		err := w.shell(ctx, r.access, &signed, guides.CloudinarySignature, "http://localhost:3000", r.server)
		if err == nil && (!signed.Success || signed.Signature == "" || signed.Timestamp == 0 || signed.APIKey == "") {
			err = fmt.Errorf("answered %+v", signed)
		}
		return err
	})
	w.step(r.guide, "2. upload the file directly to Cloudinary ("+kind+")", func() error {
		err := w.shell(ctx, "", &asset, guides.CloudinaryUpload,
			"https://api.cloudinary.com", w.stack.Env["CLOUDINARY_UPLOAD_PREFIX"], "<YOUR_CLOUD_NAME>", w.stack.Env["CLOUDINARY_CLOUD_NAME"],
			"/image/upload", "/"+kind+"/upload", "/path/to/your/test-image.jpg", file, "<API_KEY_FROM_STEP_1>", signed.APIKey,
			"<TIMESTAMP_FROM_STEP_1>", strconv.FormatInt(signed.Timestamp, 10), "<SIGNATURE_FROM_STEP_1>", signed.Signature)
		if err == nil && (asset.PublicID == "" || asset.SecureURL == "" || asset.ResourceType != kind) {
			err = fmt.Errorf("answered %+v", asset)
		}
		return err
	})
	w.step(r.guide, "3. save metadata ("+kind+")", func() error {
		var saved struct {
			Success bool `json:"success"`
		}
		err := w.shell(ctx, r.access, &saved, guides.CloudinarySave, "http://localhost:3000", r.server,
			"<PUBLIC_ID_FROM_STEP_2>", asset.PublicID, "<SECURE_URL_FROM_STEP_2>", asset.SecureURL, "<RESOURCE_TYPE_FROM_STEP_2>", asset.ResourceType)
		if err == nil && !saved.Success {
			err = errors.New("success is not true")
		}
		return err
	})
	w.step(r.guide, "media_url leads to the file ("+kind+")", func() error { return opens(ctx, asset.SecureURL, file) })
	w.step(r.guide, "access file metadata with the SELECT ("+kind+")", func() error {
		urls, err := r.selects(ctx, strings.Replace(guides.CloudinarySelect, "'image'", "'"+kind+"'", 1))
		return contains(urls, err, asset.SecureURL)
	})
	return asset
}

// contains tells whether what was found has all of what was wanted.
func contains(found []string, err error, wanted ...string) error {
	for _, one := range wanted {
		if err == nil && !slices.Contains(found, one) {
			err = fmt.Errorf("%q is not among %q", one, found)
		}
	}
	return err
}
