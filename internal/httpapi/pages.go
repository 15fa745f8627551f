package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/gofiber/fiber/v2"

	"slipway/internal/auth"
	"slipway/internal/postgres"
	"slipway/internal/provider"
	"slipway/internal/upload"
	"slipway/web"
)

// pages are the templates by name, each with the frame around it.
var pages = map[string]*template.Template{"home": page("home"), "upload": page("upload"), "problem": page("problem")}

func page(name string) *template.Template {
	funcs := template.FuncMap{
		"size":       func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
		"ago":        humanize.Time,
		"title":      title,
		"pagePath":   pagePath,
		"uploadPath": uploadPath,
		"retryPath":  retryPath,
		"cancelPath": cancelPath,
	}
	return template.Must(template.New(name).Funcs(funcs).ParseFS(web.Plain(), "page.html", name+".html"))
}

// pageStyle is the style of every page, and pagePolicy what a page may load: that style, and nothing else.
var pageStyle, pagePolicy = func() (template.CSS, string) {
	text, err := fs.ReadFile(web.Plain(), "style.css")
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(text)
	return template.CSS(text), "default-src 'none'; img-src data:; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// frame is what every page has.
type frame struct {
	Title   string
	User    string
	Style   template.CSS
	Refresh int // seconds, 0 for never
	Content any
}

func render(c *fiber.Ctx, name string, f frame) error {
	var text bytes.Buffer
	f.User, f.Style = user(c), pageStyle
	if err := pages[name].ExecuteTemplate(&text, "page", f); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	c.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	c.Set(fiber.HeaderContentSecurityPolicy, pagePolicy)
	if pageToken(c) == "" { // else the address is a secret
		c.Set(fiber.HeaderReferrerPolicy, "same-origin")
	}
	c.Set(fiber.HeaderCacheControl, "private, no-store")
	return c.Send(text.Bytes())
}

// forPeople shows a problem to a person as a page.
func (a *API) forPeople(c *fiber.Ctx) error {
	err := c.Next()
	if err == nil || !a.prefersPage(c) {
		return err
	}
	e := coded(err)
	if err := a.server.answerError(c, err); err != nil {
		return err
	}
	return render(c, "problem", frame{Title: outcomes[e.Code].title, Content: problem{
		Title: outcomes[e.Code].title, Detail: e.Message, Code: e.Code, UploadID: e.UploadID,
	}})
}

// prefersPage tells whether a person with a browser asks, not a program.
func (a *API) prefersPage(c *fiber.Ctx) bool {
	return !a.NoPages && c.Accepts(fiber.MIMEApplicationJSON, fiber.MIMETextHTML) == fiber.MIMETextHTML
}

// homePage is what the first page shows where it has no script.
type homePage struct {
	Providers       []string
	DefaultProvider string
	MaxBytes        int64
	Uploads         []upload.Upload
	Commands        []command
	Unbuilt         bool // there is no page with one
}

type command struct{ Note, Line string }

func (a *API) home(c *fiber.Ctx) error {
	p := homePage{
		Providers: a.Ingest.Providers, DefaultProvider: a.Ingest.DefaultProvider, MaxBytes: a.limit(),
		Commands: commands(a.base(c), caller(c).By != auth.ByDevUser, a.Ingest.Providers[len(a.Ingest.Providers)-1]),
		Unbuilt:  a.Page == nil,
	}
	err := a.readAs(user(c), noUpload, func(ctx context.Context, db postgres.Querier) error {
		latest, err := postgres.ListUploads(ctx, db, user(c), postgres.UploadFilter{Limit: 10})
		p.Uploads = latest.Uploads
		return err
	})
	if err != nil {
		return err
	}
	return render(c, "home", frame{Title: "Slipway", Content: p})
}

// commands are the first calls that somebody makes, ready to be pasted.
func commands(base string, token bool, provider string) []command {
	curl := "curl"
	if token {
		curl += ` -H "Authorization: Bearer $TOKEN"`
	}
	return []command{
		{"send a file and wait for its address", curl + ` -X POST ` + base + `/upload -F "file=@film.mp4" -F "fileName=film.mp4"`},
		{"send a file and go on; the answer says where to look", curl + ` -X POST ` + base + `/v1/uploads -F "file=@film.mp4" -F provider=` + provider},
		{"where it is", curl + ` ` + base + `/v1/uploads/<id>`},
		{"fetch it", curl + ` -L -o back.mp4 ` + base + `/v1/files/<id>/content`},
	}
}

// statusPage is what the page of an upload shows.
type statusPage struct {
	upload.Upload
	Says     string // the status as a sentence
	Advice   string // what to do about the error
	FileURL  string
	URL      string
	CanRetry bool

	CanCancel bool
}

func (a *API) uploadPage(c *fiber.Ctx) error {
	id, err := uploadID(c)
	if err != nil {
		return err
	}
	u, err := a.find(user(c), id)
	if err != nil {
		return err
	}
	p := statusPage{Upload: u, Says: says(u), Advice: advice(u), URL: a.base(c) + contentPath(u.ID), CanRetry: retryable(u), CanCancel: u.Status.CanBecome(upload.Canceled)}
	if u.Status == upload.Completed && u.Asset != nil {
		to, err := a.link(u.Provider, *u.Asset, provider.Transform{})
		if err != nil {
			return err
		}
		p.FileURL, p.Pushed = to.URL, u.Size
	}
	f := frame{Title: u.FileName + " · " + string(u.Status), Content: p}
	if !u.Status.Final() {
		f.Refresh = 2
	}
	return render(c, "upload", f)
}

// says tells where an upload is.
func says(u upload.Upload) string {
	switch u.Status {
	case upload.Reserved:
		return "It is to be sent to " + title(u.Provider) + " from a browser."
	case upload.Verifying:
		return title(u.Provider) + " is being asked for it."
	case upload.Expired:
		return "Nobody has said in time that it was sent."
	case upload.Queued:
		return "It is safe here and waits for its turn."
	case upload.Pushing:
		return "It is on its way to " + title(u.Provider) + "."
	case upload.Retrying:
		if u.NextAttemptAt != nil {
			return "It is tried again " + humanize.Time(*u.NextAttemptAt) + "."
		}
		return "It is tried again soon."
	case upload.Completed:
		return title(u.Provider) + " has it."
	case upload.Failed:
		return "It did not reach " + title(u.Provider) + "."
	case upload.Canceled:
		return "It was canceled; nothing of it is kept."
	case upload.Deleting:
		return "It is being deleted, here and at " + title(u.Provider) + "."
	case upload.Deleted:
		return "It was deleted."
	}
	return ""
}

// advice tells what its owner can do about the error of an upload.
func advice(u upload.Upload) string {
	switch {
	case u.Error == nil, u.Status == upload.Expired: // there the message says it
		return ""
	case u.Status != upload.Failed && u.Error.FixableBy == upload.ByOperator:
		return "Whoever runs this service has to mend that; the upload then goes on by itself."
	case u.Status != upload.Failed:
		return "There is nothing to do; it is tried again by itself."
	case u.Error.FixableBy == upload.ByYou && u.StagedAt == nil:
		return "Send the file again, and save it here afterwards."
	case u.Error.FixableBy == upload.ByYou:
		return "Upload a file that " + title(u.Provider) + " takes, or choose another provider."
	case u.Error.FixableBy == upload.ByOperator:
		return "Tell whoever runs this service; send it again when that is mended."
	case retryable(u):
		return "It can be sent again from here, without uploading it anew."
	}
	return "Upload it again."
}

func title(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
