package sign

import "testing"

func TestThumbnail(t *testing.T) {
	const file = "https://abc.ucarecd.net/740e1b8c-1ad8-4324-b7ec-112c79d8eac2/"
	tests := map[string]struct{ url, contentType, want string }{
		"of an image":                           {file, "image/png", file + "-/preview/300x300/-/format/auto/-/quality/smart/"},
		"there is none of a video":              {file, "video/mp4", ""},
		"there is none of what nobody knows":    {file, "", ""},
		"there is none at an address of a name": {file + "a.png", "image/png", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Thumbnail(tt.url, tt.contentType); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
