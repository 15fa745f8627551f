package e2e

import (
	"context"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// pictureFile makes a PNG.
func pictureFile(t *testing.T, name string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 800, 600))); err != nil {
		t.Fatal(err)
	}
	return path
}

// cloudinaryAnswer is what the Cloudinary guide's reader copies from one command into the next.
type cloudinaryAnswer struct {
	PublicID     string `json:"public_id"`
	SecureURL    string `json:"secure_url"`
	ResourceType string `json:"resource_type"`
}

func TestTheCloudinaryGuideWordForWord(t *testing.T) {
	t.Parallel()
	s := dev(t)
	film, _ := file(t, "film.mp4", 100_000)
	for resourceType, path := range map[string]string{"image": pictureFile(t, "test-image.png"), "video": film} {
		t.Run(resourceType, func(t *testing.T) {
			var signed struct {
				Success   bool
				Signature string
				Timestamp int64
				APIKey    string `json:"api_key"`
			}
			curl(t, &signed, "-X", "GET", s.url+"/generate-signature")
			if !signed.Success || signed.Signature == "" || time.Since(time.Unix(signed.Timestamp, 0)).Abs() > time.Minute || signed.APIKey != s.env["CLOUDINARY_API_KEY"] {
				t.Fatalf("answered %+v", signed)
			}
			var sent cloudinaryAnswer
			curl(t, &sent, "-X", "POST", s.env["CLOUDINARY_UPLOAD_PREFIX"]+"/v1_1/"+s.env["CLOUDINARY_CLOUD_NAME"]+"/"+resourceType+"/upload",
				"-F", "file=@"+path, "-F", "api_key="+signed.APIKey, "-F", "timestamp="+strconv.FormatInt(signed.Timestamp, 10), "-F", "signature="+signed.Signature)
			claim, err := json.Marshal(sent)
			if err != nil {
				t.Fatal(err)
			}
			var saved struct {
				Success bool
				ID      string
			}
			curl(t, &saved, "-X", "POST", s.url+"/save-metadata", "-H", "Content-Type: application/json", "-d", string(claim))
			if !saved.Success || saved.ID == "" {
				t.Fatalf("answered %+v", saved)
			}

			conn, err := pgx.Connect(t.Context(), s.env["DATABASE_URL"])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(t.Context()))
			var id int
			var row cloudinaryAnswer
			var user string
			var at time.Time
			err = conn.QueryRow(t.Context(), `
				SELECT id, public_id, media_url, resource_type, user_id, upload_timestamp
				FROM cloudinary_files
				WHERE user_id = 'user_123' AND resource_type = $1`, resourceType).Scan(&id, &row.PublicID, &row.SecureURL, &row.ResourceType, &user, &at)
			if err != nil || row != sent {
				t.Errorf("the guide's SELECT finds %+v, %v; want %+v", row, err, sent)
			}
		})
	}
}
