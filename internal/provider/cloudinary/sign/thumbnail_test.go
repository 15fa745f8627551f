package sign

import "testing"

func TestThumbnail(t *testing.T) {
	const at = "https://res.cloudinary.com/demo/"
	tests := map[string]struct{ url, kind, contentType, want string }{
		"of an image":                     {at + "image/upload/v1/folder/a.png", "image", "image/png", at + "image/upload/c_fill,w_300,h_300/v1/folder/a.jpg"},
		"of an image whose type is lost":  {at + "image/upload/v1/a", "image", "", at + "image/upload/c_fill,w_300,h_300/v1/a.jpg"},
		"of a folder with a dot":          {at + "image/upload/v1/a.b/c", "image", "", at + "image/upload/c_fill,w_300,h_300/v1/a.b/c.jpg"},
		"of a PDF is its first page":      {at + "image/upload/v1/a.pdf", "image", "application/pdf", at + "image/upload/pg_1,c_fill,w_300,h_300/v1/a.jpg"},
		"of a video is its first frame":   {at + "video/upload/v1/a.mp4", "video", "video/mp4", at + "video/upload/so_0,c_fill,w_300,h_300/v1/a.jpg"},
		"there is none of sound":          {at + "video/upload/v1/a.mp3", "video", "audio/mpeg", ""},
		"there is none of other files":    {at + "raw/upload/v1/a.zip", "raw", "application/zip", ""},
		"there is none at a foreign host": {"https://example.com/a.png", "image", "image/png", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Thumbnail(tt.url, tt.kind, tt.contentType); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
