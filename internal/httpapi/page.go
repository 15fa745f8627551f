package httpapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// Page is the page at /, as it was built: index.html, which holds nobody's data, and the files that it loads.
type Page struct {
	index  []byte
	tag    string // of index
	policy string
	assets map[string]asset // by what stands behind /assets/ in their addresses
}

// PageOptions are what the page is told, and what it may show.
type PageOptions struct {
	LoginURL string   // where whoever is nobody signs in; "" is nowhere
	DevUser  string   // whom everybody counts as who brings no token; "" is nobody
	Cookie   bool     // a cookie may hold the token
	Version  string   // of this program
	Pictures []string // origins of the files' small pictures
}

// asset is a file whose name changes with its content.
type asset struct {
	kind    string
	content []byte
	zipped  []byte // nil where that would not be smaller
}

// pageMark is where index.html is told what the page has to know.
const pageMark = "<!--slipway-->"

// NewPage reads the page from where it was built.
func NewPage(built fs.FS, o PageOptions) (*Page, error) {
	p := &Page{assets: map[string]asset{}, policy: "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
		"img-src " + strings.Join(append([]string{"'self' data: blob:"}, o.Pictures...), " ") +
		"; font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"}
	index, err := fs.ReadFile(built, "index.html")
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	if bytes.Count(index, []byte(pageMark)) != 1 {
		return nil, errors.New("read the page: index.html has not exactly one " + pageMark)
	}
	p.index = bytes.Replace(index, []byte(pageMark), o.told(), 1)
	sum := sha256.Sum256(p.index)
	p.tag = `"` + hex.EncodeToString(sum[:8]) + `"`

	const folder = "assets"
	err = fs.WalkDir(built, folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(built, name)
		if err != nil {
			return err
		}
		p.assets[strings.TrimPrefix(name, folder+"/")], err = newAsset(name, content)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	return p, nil
}

// told is o as an element that the page reads and no browser runs.
func (o PageOptions) told() []byte {
	orNull := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	text, err := json.Marshal(map[string]any{ // which escapes < and >
		"login_url": orNull(o.LoginURL), "dev_user": orNull(o.DevUser), "version": o.Version, "cookie": o.Cookie,
	})
	if err != nil {
		panic(err) // strings and booleans always have a JSON form
	}
	return fmt.Appendf(nil, `<script type="application/json" id="slipway">%s</script>`, text)
}

func newAsset(name string, content []byte) (asset, error) {
	a := asset{kind: mime.TypeByExtension(path.Ext(name)), content: content}
	if a.kind == "" {
		a.kind = http.DetectContentType(content)
	}
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := w.Write(content)
	if err := errors.Join(err, w.Close()); err != nil {
		return asset{}, fmt.Errorf("compress %s: %w", name, err)
	}
	if zipped.Len() < len(content)*9/10 {
		a.zipped = zipped.Bytes()
	}
	return a, nil
}

// front shows the page to people, and leads to it with the token in the fragment, which no server and no log
// sees, whoever comes with one in the query.
func (a *API) front(c *fiber.Ctx) error {
	if a.Page == nil || !a.prefersPage(c) {
		return c.Next()
	}
	c.Vary(fiber.HeaderAccept)
	if token := c.Query(formToken); token != "" {
		return c.Redirect("./#"+formToken+"="+url.QueryEscape(token), http.StatusSeeOther)
	}
	c.Set(fiber.HeaderETag, a.Page.tag)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Set(fiber.HeaderContentSecurityPolicy, a.Page.policy)
	c.Set(fiber.HeaderReferrerPolicy, "same-origin")
	if known, _ := copyOf(c, a.Page.tag); known {
		return c.SendStatus(http.StatusNotModified)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	return c.Send(a.Page.index)
}

// asset sends what the page loads.
func (a *API) asset(c *fiber.Ctx) error {
	it, ok := a.Page.assets[c.Params("*")]
	if !ok {
		return fiber.ErrNotFound
	}
	c.Set(fiber.HeaderContentType, it.kind)
	c.Set(fiber.HeaderCacheControl, "public, max-age=31536000, immutable")
	if it.zipped == nil {
		return c.Send(it.content)
	}
	c.Vary(fiber.HeaderAcceptEncoding)
	if !c.Request().Header.HasAcceptEncoding("gzip") {
		return c.Send(it.content)
	}
	c.Set(fiber.HeaderContentEncoding, "gzip")
	return c.Send(it.zipped)
}
