package sign

import "strings"

// Thumbnail is the address of a picture of 300 by 300 pixels of the asset at url: the image, a PDF's
// first page, a video's first frame; "" for what has none (guide "Transformation URL API").
func Thumbnail(url, resourceType, contentType string) string {
	transformation := "c_fill,w_300,h_300"
	switch {
	case resourceType == "image" && contentType == "application/pdf":
		transformation = "pg_1," + transformation
	case resourceType == "image":
	case resourceType == "video" && strings.HasPrefix(contentType, "video/"):
		transformation = "so_0," + transformation
	default:
		return ""
	}
	base, id, found := strings.Cut(url, "/"+resourceType+"/upload/")
	if !found {
		return ""
	}
	if dot := strings.LastIndexByte(id, '.'); dot > strings.LastIndexByte(id, '/') {
		id = id[:dot]
	}
	return base + "/" + resourceType + "/upload/" + transformation + "/" + id + ".jpg"
}
