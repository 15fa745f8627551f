// Package web holds what people see in a browser: the page at /, where it was built, and pages without a script.
package web

import (
	"embed"
	"io/fs"
)

// The folder dist is what `npm run build` makes. Its first file is there without that too, so that this compiles.
var (
	//go:embed plain
	plain embed.FS
	//go:embed all:dist
	dist embed.FS
)

// Plain are the pages without a script: html/template files, each of which fills the frame in page.html, and their style.
func Plain() fs.FS { return folder(plain, "plain") }

// Built is the page as it was built, index.html and what it loads from assets/; nil where that was not done.
func Built() fs.FS {
	built := folder(dist, "dist")
	if _, err := fs.Stat(built, "index.html"); err != nil {
		return nil
	}
	return built
}

func folder(files embed.FS, name string) fs.FS {
	sub, err := fs.Sub(files, name)
	if err != nil {
		panic(err) // the names are ours
	}
	return sub
}
