package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"slipway/internal/upload"
)

func TestEveryCodeHasAnOutcome(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../upload/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var codes int
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.CONST {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Code" {
				continue
			}
			codes++
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if o := outcomes[upload.Code(code)]; o.status < 400 || o.title == "" {
				t.Errorf("%s has no outcome", code)
			}
		}
	}
	if codes != len(outcomes) {
		t.Errorf("%d outcomes for %d codes", len(outcomes), codes)
	}
}

func TestProblems(t *testing.T) {
	id := upload.NewID()
	secret := errors.New(`open /srv/staging/x: SELECT * FROM uploads: password`)
	var log bytes.Buffer
	r := run(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(s *Server) {
		fails := func(err error) fiber.Handler { return func(*fiber.Ctx) error { return err } }
		s.app.Post("/v1/uploads", fails(&upload.Error{Code: upload.NoFile, Message: "No file came."}))
		s.app.Get("/v1/uploads/:id", fails(&upload.Error{Code: upload.Unavailable, Message: "Try again.", Retryable: true, UploadID: id, Cause: secret}))
		s.app.Post("/upload", fails(&upload.Error{Code: upload.Unauthorized, Message: "Send a token."}))
		s.app.Post("/save-metadata", fails(fmt.Errorf("save: %w", &upload.Error{Code: upload.InvalidRequest, Message: "secure_url is missing."})))
		s.app.Get("/generate-signature", fails(secret))
		s.app.Get("/unnamed", fails(secret))
		s.app.Get("/unlisted", fails(&upload.Error{Code: "new", Message: "new"}))
		s.app.Get("/panics", func(*fiber.Ctx) error { panic(secret) })
	})
	big := strings.Repeat("x", 40<<10)
	tests := map[string]struct {
		request string
		status  int
		want    problem
		headers map[string]string
	}{
		"a coded error": {
			head("POST", "/v1/uploads"), 422,
			problem{Title: "No file", Detail: "No file came.", Code: upload.NoFile}, nil,
		},
		"one that passes": {
			head("GET", "/v1/uploads/1"), 503,
			problem{Title: "Unavailable", Detail: "Try again.", Code: upload.Unavailable, Retryable: true, UploadID: id},
			map[string]string{"Retry-After": "5"},
		},
		"no token, in the guides' form": {
			head("POST", "/upload"), 401,
			problem{Title: "Unauthorized", Detail: "Send a token.", Code: upload.Unauthorized, Success: new(bool), Error: "Unauthorized"},
			map[string]string{"WWW-Authenticate": bearer},
		},
		"another in the guides' form": {
			head("POST", "/save-metadata"), 400,
			problem{Title: "Invalid request", Detail: "secure_url is missing.", Code: upload.InvalidRequest, Success: new(bool), Error: "secure_url is missing."}, nil,
		},
		"no cause in the guides' form": {
			head("GET", "/generate-signature"), 500,
			problem{Title: "Internal error", Detail: internalDetail, Code: upload.Internal, Success: new(bool), Error: internalDetail}, nil,
		},
		"an error nobody named": {head("GET", "/unnamed"), 500, problem{Title: "Internal error", Detail: internalDetail, Code: upload.Internal}, nil},
		"a code without a row":  {head("GET", "/unlisted"), 500, problem{Title: "Internal error", Detail: internalDetail, Code: upload.Internal}, nil},
		"a panic":               {head("GET", "/panics"), 500, problem{Title: "Internal error", Detail: internalDetail, Code: upload.Internal}, nil},
		"an unknown route": {
			head("GET", "/nowhere<b>"), 404,
			problem{Title: "Not found", Detail: "There is nothing at this address.", Code: upload.NotFound}, nil,
		},
		"a wrong method": {
			head("DELETE", "/unnamed"), 405, problem{Title: "Method not allowed", Detail: wrongMethodDetail, Code: upload.MethodNotAllowed},
			map[string]string{"Allow": "GET, HEAD"},
		},
		"an unknown method": {
			head("BREW", "/unnamed"), 405, problem{Title: "Method not allowed", Detail: wrongMethodDetail, Code: upload.MethodNotAllowed},
			map[string]string{"Allow": "GET, HEAD"},
		},
		"an unknown method on an unknown route": {
			head("BREW", "/nowhere"), 404, problem{Title: "Not found", Detail: "There is nothing at this address.", Code: upload.NotFound}, nil,
		},
		"headers beyond measure": {
			head("GET", "/unnamed", "X-Big: "+big), 431,
			problem{Title: "Request headers too large", Detail: "The request line and headers are larger than 32 KiB (32768 bytes).", Code: upload.HeadersTooLarge}, nil,
		},
		"no request line": {
			"hello\r\n\r\n", 400,
			problem{Title: "Invalid request", Detail: "The request could not be read as HTTP.", Code: upload.InvalidRequest}, nil,
		},
		"a header without a colon": {
			"GET / HTTP/1.1\r\nAuthorization Bearer secret\r\nHost: localhost\r\n\r\n", 400,
			problem{Title: "Invalid request", Detail: "The request could not be read as HTTP.", Code: upload.InvalidRequest}, nil,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			log.Reset()
			c := r.dial(t)
			c.send(tt.request)
			a := c.answer()
			got := a.problem(t)
			if !strings.HasPrefix(got.Instance, "urn:uuid:") || got.Instance != "urn:uuid:"+a.Header.Get("X-Request-Id") {
				t.Errorf("instance is %q, X-Request-Id %q", got.Instance, a.Header.Get("X-Request-Id"))
			}
			tt.want.Instance, tt.want.Status, tt.want.Type = got.Instance, tt.status, "/problems/"+string(tt.want.Code)
			wantJSON, _ := json.Marshal(tt.want)
			if a.StatusCode != tt.status || a.text != string(wantJSON) {
				t.Errorf("got %d %s\nwant %d %s", a.StatusCode, a.text, tt.status, wantJSON)
			}
			if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
				t.Errorf("Content-Type is %q", ct)
			}
			for key, want := range tt.headers {
				if v := a.Header.Get(key); v != want {
					t.Errorf("%s is %q, want %q", key, v, want)
				}
			}
			if tt.status == 500 && tt.want.Detail == internalDetail && !strings.Contains(log.String(), a.Header.Get("X-Request-Id")) {
				t.Errorf("the log does not know the request's id: %s", log.String())
			}
		})
	}
}

const (
	internalDetail    = "Something went wrong here, not with your request. The log has the cause under the id in instance."
	wrongMethodDetail = "This address does not take this method; the Allow header says which it takes."
)

func TestLargeHeadersPass(t *testing.T) {
	r := run(t, Options{}, nil)
	c := r.dial(t)
	c.send(head("GET", "/livez", "Authorization: Bearer "+strings.Repeat("t", 5<<10), "Upload-Metadata: filename "+strings.Repeat("m", 5<<10)))
	if a := c.answer(); a.StatusCode != 200 {
		t.Errorf("got %d %s, want 200", a.StatusCode, a.text)
	}
}

func TestTheTypeOfAProblemCanBeFetched(t *testing.T) {
	r := run(t, Options{}, nil)
	c := r.dial(t)
	c.send(head("GET", "/problems/too_large"))
	if a := c.answer(); a.StatusCode != 200 || !strings.Contains(a.text, `"status":413`) {
		t.Errorf("got %d %s", a.StatusCode, a.text)
	}
	c.send(head("GET", "/problems/none"))
	wantCode(t, c.answer(), 404, upload.NotFound)
}
