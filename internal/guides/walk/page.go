package main

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/guides"
)

const pageName = "from the guides"

// page is docs/from-the-guides.md, at work: its servers and commands with the ports that are free here.
type page struct {
	*walk
	text        string
	dir         string // of the reader's app, with the .env
	bin         string
	databaseURL string
	app         string // the server's address
	slipway     string // Slipway's own
}

// Bytes of a file that a server shows which holds it in memory; of the largest that Slipway takes here; and of
// one that is still being sent when Slipway has answered, has heard enough of it and has hung up.
const (
	largeFile = 128 << 20
	maxUpload = 300 << 20
	hugeFile  = 800 << 20
)

// sessions are the users whom the page's servers know, by the cookie's value.
var sessions = map[string]string{"user_123": "session-of-anna", "user_456": "session-of-ben"}

// packages are what the page's Hono server imports.
//
//go:embed app/package.json app/package-lock.json
var packages embed.FS

// fromTheGuides walks the page: tables with rows of the guides' servers, Slipway by the page's settings and
// commands, and before it the page's servers, one after the other.
func (w *walk) fromTheGuides(ctx context.Context) {
	p := &page{walk: w, dir: filepath.Join(w.dir, "app"), bin: filepath.Join(w.dir, "bin")}
	if !w.step(pageName, "the page has the guides' commands word for word", func() error { return p.read(ctx) }) {
		return
	}
	if !w.step(pageName, "there are the guides' tables, with rows of the guides' servers", func() error { return p.before(ctx) }) {
		return
	}
	if !w.step(pageName, "1. the settings", p.settings) {
		return
	}
	var slipway *program
	defer func() {
		if slipway != nil {
			w.step(pageName, "Slipway ends", slipway.stop)
		}
	}()
	if !w.step(pageName, "2. start", func() (err error) {
		slipway, err = p.start(ctx)
		return err
	}) {
		return
	}
	p.server(ctx, "Hono", func() (*program, error) { return p.hono(ctx) })
	p.server(ctx, "Flask", func() (*program, error) { return p.flask(ctx) })
}

// read takes the page as it is, and finds addresses for what it places at 3000 and 4000.
func (p *page) read(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "docs", "from-the-guides.md"))
	if err != nil {
		return err
	}
	var all []error
	for _, command := range []string{guides.UploadcareUpload, guides.CloudinarySignature, guides.CloudinaryUpload, guides.CloudinarySave} {
		if !slices.Contains(blocks(string(text), "bash"), command+"\n") {
			all = append(all, fmt.Errorf("it does not have %q", command))
		}
	}
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	p.text = strings.NewReplacer("3000", ports[0], "4000", ports[1]).Replace(string(text))
	p.app, p.slipway = "http://localhost:"+ports[0], "http://localhost:"+ports[1]
	return errors.Join(all...)
}

// blocks are the code blocks of a Markdown text in a language, in their order.
func blocks(text, language string) []string {
	var found []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports = append(ports, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

// oldFile and oldPicture are where a user's files from before Slipway are.
func oldFile(user string) string { return "https://ucarecdn.com/before-" + user + "/" }
func oldPicture(user string) string {
	return "https://res.cloudinary.com/demo/image/upload/v1/before-" + user
}

func (p *page) before(ctx context.Context) error {
	const name = "from_the_guides"
	if err := execute(ctx, p.stack.DatabaseURL, "CREATE DATABASE "+name); err != nil {
		return err
	}
	u, err := url.Parse(p.stack.DatabaseURL)
	if err != nil {
		return err
	}
	u.Path = "/" + name
	p.databaseURL = u.String()
	err = errors.Join(execute(ctx, p.databaseURL, guides.UploadcareTable), execute(ctx, p.databaseURL, guides.CloudinaryTable))
	for user := range sessions {
		err = errors.Join(err,
			execute(ctx, p.databaseURL, guides.UploadcareInsert, "before-"+user, oldFile(user), user),
			execute(ctx, p.databaseURL, guides.CloudinaryInsert, "before-"+user, oldPicture(user), "image", user))
	}
	return err
}

// settings writes the page's .env, with the accounts of the simulators.
func (p *page) settings() error {
	secret := make([]byte, 48)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	fill := []string{"your_neon_database_connection_string", p.databaseURL, "your_own_secret", base64.StdEncoding.EncodeToString(secret)}
	for _, name := range []string{"UPLOADCARE_PUBLIC_KEY", "UPLOADCARE_SECRET_KEY", "CLOUDINARY_CLOUD_NAME", "CLOUDINARY_API_KEY", "CLOUDINARY_API_SECRET"} {
		fill = append(fill, "your_"+strings.ToLower(name), p.stack.Env[name])
	}
	env := strings.NewReplacer(fill...).Replace(blocks(p.text, "env")[0])
	if strings.Contains(env, "your_") {
		return fmt.Errorf("it leaves something open: %s", env)
	}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, ".env"), []byte(env), 0o600)
}

// start runs the page's commands, the last of which stays.
func (p *page) start(ctx context.Context) (*program, error) {
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", p.bin+"/", "slipway/cmd/slipway").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	env := []string{"WORKER_PORT=" + ports[0], "LOG_LEVEL=warn", "MAX_UPLOAD_BYTES=" + strconv.Itoa(maxUpload)}
	for name, value := range p.stack.Env { // the simulators stand where the services are
		if strings.HasSuffix(name, "_BASE") || strings.HasSuffix(name, "_PREFIX") {
			env = append(env, name+"="+value)
		}
	}
	for i, commands := 0, strings.Split(strings.TrimSpace(startBlock(p.text)), "\n"); ; i++ {
		words := strings.Fields(commands[i])
		words[0] = filepath.Join(p.bin, words[0])
		g, err := launch(ctx, filepath.Join(p.walk.dir, "slipway.log"), p.dir, env, words...)
		if err != nil {
			return nil, err
		}
		if i == len(commands)-1 {
			return g, g.answers(ctx, p.slipway+"/readyz")
		}
		if err := g.wait(); err != nil {
			return nil, err
		}
	}
}

// startBlock are the commands that start Slipway, the first on the page.
func startBlock(text string) string { return blocks(text, "bash")[0] }

func (p *page) hono(ctx context.Context) (*program, error) {
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := packages.ReadFile("app/" + name)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o600); err != nil {
			return nil, err
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts")
	npm.Dir = p.dir
	if out, err := npm.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm ci (Node.js 20 or later with npm is needed): %w: %s", err, out)
	}
	return p.serves(ctx, "javascript", "node", "server.mjs")
}

func (p *page) flask(ctx context.Context) (*program, error) {
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(ctx, python, "-c", "import flask, jwt, dotenv").Run() == nil {
			return p.serves(ctx, "python", python, "server.py")
		}
	}
	return nil, errors.New("there is no python3 with Flask, PyJWT and python-dotenv; scripts/install-flask.sh gets them, or says how")
}

// serves runs the server that the page's blocks in a language are, one after the other.
func (p *page) serves(ctx context.Context, language, runs, file string) (*program, error) {
	server := strings.Join(blocks(p.text, language), "\n")
	if err := os.WriteFile(filepath.Join(p.dir, file), []byte(server), 0o600); err != nil {
		return nil, err
	}
	g, err := launch(ctx, filepath.Join(p.walk.dir, file+".log"), p.dir, nil, runs, file)
	if err != nil {
		return nil, err
	}
	return g, g.answers(ctx, p.app+"/upload")
}

// server goes through the guides' calls with one of the page's servers before Slipway.
func (p *page) server(ctx context.Context, name string, run func() (*program, error)) {
	guide := pageName + ", " + name
	var server *program
	if ok := p.step(guide, "3. the server", func() (err error) {
		server, err = run()
		return err
	}); server != nil {
		defer func() { p.step(guide, "the server ends", server.stop) }()
		if !ok {
			return
		}
	} else {
		return
	}
	p.step(guide, "who is not signed in is refused, in the guides' words", func() error {
		var answer struct {
			Success *bool  `json:"success"`
			Error   string `json:"error"`
		}
		err := p.shell(ctx, "", &answer, guides.CloudinarySignature, "http://localhost:3000", p.app)
		if err == nil && (answer.Success == nil || *answer.Success || answer.Error != "Unauthorized") {
			err = fmt.Errorf("answered %+v", answer)
		}
		return err
	})

	p.step(guide, "what is asked for arrives as it was asked for", func() error {
		status, _, err := p.get(ctx, "/v1/files/no%20such%20f%C3%ADle?transform=width%3A0", "user_123")
		if err == nil && status != http.StatusNotFound {
			err = fmt.Errorf("answered %d", status)
		}
		return err
	})

	type findings struct{ file, id, picture string }
	found := map[string]findings{}
	for _, user := range []string{"user_123", "user_456"} {
		r := p.reader(guide, user)
		var f findings
		f.file, f.id = p.uploads(ctx, r)
		f.picture = p.sendsToCloudinary(ctx, r, "image").SecureURL
		found[user] = f
	}
	p.sendsToCloudinary(ctx, p.reader(guide, "user_123"), "video")
	p.step(guide, "a large file, and an answer at once with links to the server", func() error { return p.atOnce(ctx) })
	p.step(guide, "the server has not held it in memory", func() error {
		peak, err := server.peak()
		if err == nil && peak > largeFile {
			err = fmt.Errorf("it took %d MiB", peak>>20)
		}
		return err
	})
	p.step(guide, "what is too large is refused before it has been sent", func() error { return p.tooLarge(ctx) })
	p.step(guide, "the token, by which curl asks Slipway itself", func() error { return p.byToken(ctx) })

	for user, mine := range found {
		other := found[map[string]string{"user_123": "user_456", "user_456": "user_123"}[user]]
		r := p.reader(guide, user)
		p.step(r.guide, "each SELECT finds what was there before and what is new, and nothing of the other user's", func() error {
			files, err := r.selects(ctx, guides.UploadcareSelect)
			pictures, err2 := r.selects(ctx, guides.CloudinarySelect)
			err = errors.Join(contains(files, err, oldFile(user), mine.file), contains(pictures, err2, oldPicture(user), mine.picture))
			if slices.Contains(files, other.file) || slices.Contains(pictures, other.picture) {
				err = errors.Join(err, errors.New("they find the other user's"))
			}
			return err
		})
		p.step(r.guide, "so does Slipway's own list", func() error {
			urls, err := p.listed(ctx, user)
			err = contains(urls, err, oldFile(user), oldPicture(user), mine.file, mine.picture)
			if slices.Contains(urls, other.file) || slices.Contains(urls, other.picture) {
				err = errors.Join(err, errors.New("it shows the other user's"))
			}
			return err
		})
		p.step(r.guide, "the other user's file is not there for this one, and the own one leads to its place", func() error {
			status, _, err := p.get(ctx, "/v1/files/"+other.id, user)
			if err == nil && status != http.StatusNotFound {
				err = fmt.Errorf("the other's answered %d", status)
			}
			if err != nil {
				return err
			}
			status, to, err := p.get(ctx, "/v1/files/"+mine.id+"/content", user)
			if err == nil && (status != http.StatusFound || to != mine.file) {
				err = fmt.Errorf("its own answered %d to %q", status, to)
			}
			return err
		})
	}
}

func (p *page) reader(guide, user string) reader {
	return reader{
		guide: guide + ", " + user, user: user, server: p.app, databaseURL: p.databaseURL,
		access: fmt.Sprintf("cookie = %q", "session="+sessions[user]),
	}
}

// atOnce uploads what curl announces with Expect: 100-continue, and does not wait for the provider.
func (p *page) atOnce(ctx context.Context) error {
	file, err := p.film("film.mp4", largeFile)
	if err != nil {
		return err
	}
	r := p.reader(pageName, "user_123")
	var answer struct {
		Success   bool   `json:"success"`
		StatusURL string `json:"statusUrl"`
		FileURL   string `json:"fileUrl"`
	}
	err = p.shell(ctx, r.access, &answer, guides.UploadcareUpload+` -H "Prefer: respond-async" -H "Expect: 100-continue"`,
		"http://localhost:3000", r.server, "/path/to/your/image.jpg", file)
	if err != nil {
		return err
	}
	path, ours := strings.CutPrefix(answer.StatusURL, p.app)
	if !answer.Success || !ours || !strings.HasPrefix(answer.FileURL, p.app+"/v1/files/") {
		return fmt.Errorf("answered %+v, want links that begin with %s", answer, p.app)
	}
	var upload struct {
		Status string `json:"status"`
	}
	err = p.shell(ctx, r.access, &upload, `for ((i = 0; i < 100; i++)); do # each answer is a change, and a large file has many
		answer=$(curl -H "Prefer: wait=10" `+p.app+path+`)
		if [[ $answer == *'"status":"completed"'* || $answer == *'"status":"failed"'* ]]; then break; fi
	done
	echo "$answer"`)
	if err == nil && upload.Status != "completed" {
		err = fmt.Errorf("the upload is %s", upload.Status)
	}
	if err != nil {
		return err
	}
	_, to, err := p.get(ctx, strings.TrimPrefix(answer.FileURL, p.app), "user_123")
	if err != nil {
		return err
	}
	return opens(ctx, to, file)
}

func (p *page) tooLarge(ctx context.Context) error {
	file, err := p.film("film.mp4", hugeFile)
	if err != nil {
		return err
	}
	r := p.reader(pageName, "user_123")
	var answer struct {
		Success *bool  `json:"success"`
		Error   string `json:"error"`
		Code    string `json:"code"`
	}
	// A server that closes while curl still sends can take the answer away with it (curl's 55 and 56), as without Slipway.
	for range 5 {
		err = p.shell(ctx, r.access, &answer, guides.UploadcareUpload, "http://localhost:3000", r.server, "/path/to/your/image.jpg", file)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 55 && exit.ExitCode() != 56 {
			break
		}
	}
	if err == nil && (answer.Success == nil || *answer.Success || answer.Error == "" || answer.Code != "too_large") {
		err = fmt.Errorf("answered %+v", answer)
	}
	return err
}

// byToken runs the page's commands for whoever calls Slipway without the server.
func (p *page) byToken(ctx context.Context) error {
	file, err := p.picture("my-image.png")
	if err != nil {
		return err
	}
	at := slices.IndexFunc(blocks(p.text, "bash"), func(b string) bool { return strings.Contains(b, "TOKEN=") })
	if at < 0 {
		return errors.New("the page has no such commands")
	}
	var answer struct {
		Success bool   `json:"success"`
		FileURL string `json:"fileUrl"`
	}
	if err := p.shell(ctx, "", &answer, blocks(p.text, "bash")[at], "/path/to/your/image.jpg", file); err != nil {
		return err
	}
	if !answer.Success {
		return fmt.Errorf("answered %+v", answer)
	}
	urls, err := p.listed(ctx, "user_123")
	return errors.Join(contains(urls, err, answer.FileURL), opens(ctx, answer.FileURL, file))
}

// listed are the URLs of a user's files, by the page's last command.
func (p *page) listed(ctx context.Context, user string) ([]string, error) {
	commands := blocks(p.text, "bash")
	var list struct {
		Files []struct {
			URL string `json:"url"`
		} `json:"files"`
	}
	err := p.shell(ctx, "", &list, commands[len(commands)-1], sessions["user_123"], sessions[user])
	var urls []string
	for _, f := range list.Files {
		urls = append(urls, f.URL)
	}
	return urls, err
}

// get asks the server as a user; to is where the answer leads.
func (p *page) get(ctx context.Context, path, user string) (status int, to string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.app+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.AddCookie(&http.Cookie{Name: "session", Value: sessions[user]})
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Location"), err
}
