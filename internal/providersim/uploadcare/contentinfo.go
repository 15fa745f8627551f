package uploadcare

import "strings"

// contentInfo is what both APIs tell about a file's content.
type contentInfo struct {
	Mime  mimeInfo   `json:"mime"`
	Image *imageInfo `json:"image,omitempty"`
}

type mimeInfo struct {
	Mime    string `json:"mime"`
	Type    string `json:"type"`
	Subtype string `json:"subtype"`
}

type imageInfo struct {
	Format           string    `json:"format"`
	Width            int       `json:"width"`
	Height           int       `json:"height"`
	ColorMode        string    `json:"color_mode"`
	Orientation      *int      `json:"orientation"`
	DPI              []int     `json:"dpi"`
	GeoLocation      *struct{} `json:"geo_location"`
	DatetimeOriginal *string   `json:"datetime_original"`
	Sequence         bool      `json:"sequence"`
}

func (a Asset) imageInfo() *imageInfo {
	if a.Image == nil {
		return nil
	}
	return &imageInfo{Format: a.Image.Format, Width: a.Image.Width, Height: a.Image.Height, ColorMode: "RGB"}
}

func (a Asset) contentInfo() *contentInfo {
	mainType, subtype, _ := strings.Cut(a.Detected, "/")
	return &contentInfo{Mime: mimeInfo{Mime: a.Detected, Type: mainType, Subtype: subtype}, Image: a.imageInfo()}
}

// notNil is m, or an empty map for clients that read null as a fault.
func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
