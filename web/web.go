// Package web holds what people see in a browser: pages without a script.
package web

import "embed"

// Pages are html/template files, each of which fills the frame in page.html, and their style.
//
//go:embed *.html style.css
var Pages embed.FS
