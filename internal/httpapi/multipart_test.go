package httpapi

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"slipway/internal/upload"
)

// part returns one part of a form with the boundary "b".
func part(disposition, content string, headers ...string) string {
	lines := append([]string{"--b", "Content-Disposition: form-data; " + disposition}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + content + "\r\n"
}

const formEnd = "--b--\r\n"

func field(name, value string) string { return part(`name="`+name+`"`, value) }

// taken is what a form came to.
type taken struct {
	name, contentType, content string
	before, fields             url.Values
}

func parse(form string, limit int64) (taken, error) {
	var got taken
	fields, err := parseForm(strings.NewReader(form), "multipart/form-data; boundary=b", limit, func(f filePart, before url.Values) error {
		content, err := io.ReadAll(f)
		got.name, got.contentType, got.content = f.Name, f.ContentType, string(content)
		got.before = url.Values{}
		for key, values := range before {
			got.before[key] = values
		}
		return err
	})
	got.fields = fields
	return got, err
}

func TestFieldsBeforeAndAfterTheFile(t *testing.T) {
	form := field("provider", "cloudinary") + field("tags", "a") + field("tags", "b") +
		part(`name="file"; filename="père & fils (1).mp4"`, "bytes\r\n--not the boundary", "Content-Type: video/mp4") +
		field("fileName", "film.mp4") + field("unknown", "x") + formEnd
	got, err := parse(form, 100)
	want := taken{
		name: "père & fils (1).mp4", contentType: "video/mp4", content: "bytes\r\n--not the boundary",
		before: url.Values{"provider": {"cloudinary"}, "tags": {"a", "b"}},
		fields: url.Values{"provider": {"cloudinary"}, "tags": {"a", "b"}, "fileName": {"film.mp4"}, "unknown": {"x"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	file := part(`name="file"; filename="f"`, "0123456789")
	var many strings.Builder
	for i := range maxFields + 1 {
		many.WriteString(field(fmt.Sprint("f", i), ""))
	}
	tests := map[string]struct {
		form string
		want upload.Code
	}{
		"no part":                            {formEnd, upload.NoFile},
		"no file":                            {field("fileName", "x") + formEnd, upload.NoFile},
		"a file field left empty":            {part(`name="file"; filename=""`, "", "Content-Type: application/octet-stream") + formEnd, upload.NoFile},
		"a name instead of a file":           {field("file", "film.mp4") + formEnd, upload.NoFile},
		"a file in another field":            {part(`name="photo"; filename="f"`, "x") + formEnd, upload.NoFile},
		"two files":                          {file + file + formEnd, upload.SeveralFiles},
		"a second file in another field":     {file + part(`name="photo"; filename="f"`, "x") + formEnd, upload.SeveralFiles},
		"a file over the limit":              {part(`name="file"; filename="f"`, "0123456789a") + formEnd, upload.TooLarge},
		"a field beyond measure":             {field("x", strings.Repeat("x", maxFieldBytes+1)) + file + formEnd, upload.FieldsTooLarge},
		"fields beyond measure together":     {field("x", strings.Repeat("x", 40<<10)) + file + field("y", strings.Repeat("x", 40<<10)) + formEnd, upload.FieldsTooLarge},
		"too many fields":                    {many.String() + file + formEnd, upload.FieldsTooLarge},
		"headers beyond measure":             {part(`name="x"`, "", "X-Big: "+strings.Repeat("x", formOverhead)) + file + formEnd, upload.FieldsTooLarge},
		"a preamble beyond measure":          {strings.Repeat("x\r\n", formOverhead/3) + file + formEnd, upload.FieldsTooLarge},
		"an epilogue beyond measure":         {file + formEnd + strings.Repeat("x", formOverhead+4096), upload.FieldsTooLarge},
		"no end":                             {file, upload.InvalidRequest},
		"an end inside the file":             {file[:len(file)-5], upload.InvalidRequest},
		"nothing":                            {"", upload.InvalidRequest},
		"another boundary":                   {strings.ReplaceAll(file+formEnd, "--b", "--c"), upload.InvalidRequest},
		"a part without a disposition":       {"--b\r\n\r\nx\r\n" + file + formEnd, upload.InvalidRequest},
		"a disposition that cannot be read":  {part(`name="x`, "") + file + formEnd, upload.InvalidRequest},
		"a disposition beyond measure":       {part(`name="file"; filename="`+strings.Repeat("x", maxDisposition)+`"`, "x") + formEnd, upload.InvalidRequest},
		"a field that is not UTF-8":          {field("x", "\xff") + file + formEnd, upload.InvalidRequest},
		"a file in a transfer encoding":      {part(`name="file"; filename="f"`, "eA==", "Content-Transfer-Encoding: base64") + formEnd, upload.InvalidRequest},
		"a header of a part without a colon": {"--b\r\nContent-Disposition form-data\r\n\r\nx\r\n" + formEnd, upload.InvalidRequest},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := parse(tt.form, 10); codeOf(err) != tt.want {
				t.Errorf("got %+v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func TestFormsThatPass(t *testing.T) {
	file := part(`name="file"; filename="f"`, "0123456789")
	tests := map[string]string{
		"a file of just the limit":               file + formEnd,
		"fields of just the limit":               field("x", strings.Repeat("x", maxFieldBytes-1)) + file + formEnd,
		"a preamble and an epilogue":             "preamble\r\n" + file + formEnd + "epilogue",
		"no line end after the last boundary":    file + "--b--",
		"a second file field left empty":         file + part(`name="photo"; filename=""`, "") + formEnd,
		"a file without a name, but with a type": part(`name="file"`, "0123456789", "Content-Type: video/mp4") + formEnd,
		"a file with an empty name":              part(`name="file"; filename=""`, "0123456789") + formEnd,
		"line ends without carriage returns":     strings.ReplaceAll(file+formEnd, "\r\n", "\n"),
	}
	for name, form := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := parse(form, 10); err != nil || got.content != "0123456789" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestOtherBodiesAreNoForms(t *testing.T) {
	for _, contentType := range []string{"", "application/json", "multipart/mixed; boundary=b", "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary"} {
		if _, err := parseForm(strings.NewReader(formEnd), contentType, 10, nil); codeOf(err) != upload.UnsupportedMedia {
			t.Errorf("%q gave %v, want %s", contentType, err, upload.UnsupportedMedia)
		}
	}
}

func TestWhatTheHandlerLeavesIsSkipped(t *testing.T) {
	form := part(`name="file"; filename="f"`, strings.Repeat("x", 2*formOverhead)) + field("provider", "cloudinary") + formEnd
	fields, err := parseForm(strings.NewReader(form), "multipart/form-data; boundary=b", 1<<20, func(filePart, url.Values) error { return nil })
	if err != nil || fields.Get("provider") != "cloudinary" {
		t.Errorf("got %v, %v", fields, err)
	}
}

func TestACutFormIsCut(t *testing.T) {
	r := run(t, Options{}, func(s *Server) { s.app.Post("/form", takeForm(s)) })
	whole := part(`name="file"; filename="f"`, strings.Repeat("x", 20<<10)) + formEnd
	for name, declared := range map[string]int{"inside the file": 100 << 10, "after the last boundary": len(whole) + 1} {
		t.Run(name, func(t *testing.T) {
			sent := whole
			if declared > len(whole)+1 {
				sent = whole[:10<<10]
			}
			c := r.dial(t)
			c.send(post("/form", declared, "Content-Type: multipart/form-data; boundary=b") + sent)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			wantCode(t, c.answer(), 400, upload.CutBody)
		})
	}
}

func TestParseDisposition(t *testing.T) {
	tests := map[string]struct {
		header string
		want   disposition
	}{
		"plain":                           {`form-data; name="file"; filename="film.mp4"`, disposition{"file", "film.mp4", true}},
		"no file":                         {`form-data; name="a"`, disposition{"a", "", false}},
		"tokens":                          {`form-data; name=file; filename=film.mp4`, disposition{"file", "film.mp4", true}},
		"UTF-8":                           {`form-data; name="file"; filename="père & fils (1).mp4"`, disposition{"file", "père & fils (1).mp4", true}},
		"a browser's quotes":              {`form-data; name="file"; filename="a%22b%0D%0Ac%25.mp4"`, disposition{"file", "a\"b\r\nc%25.mp4", true}},
		"a browser's quotes in the field": {`form-data; name="a%22b"`, disposition{`a"b`, "", false}},
		"curl's quotes":                   {`form-data; name="file"; filename="a\"b\\c.mp4"`, disposition{"file", `a"b\c.mp4`, true}},
		"a Windows path":                  {`form-data; name="file"; filename="C:\films\a.mp4"`, disposition{"file", `C:\films\a.mp4`, true}},
		"the extended form":               {`form-data; name="file"; filename*=UTF-8''p%C3%A8re%2522.mp4`, disposition{"file", "père%22.mp4", true}},
		"both forms":                      {`form-data; name="file"; filename="p_re.mp4"; filename*=UTF-8'fr'p%C3%A8re.mp4`, disposition{"file", "père.mp4", true}},
		"both forms, turned around":       {`form-data; name="file"; filename*=utf-8''p%C3%A8re.mp4; filename="p_re.mp4"`, disposition{"file", "père.mp4", true}},
		"a semicolon inside":              {`form-data; name="file"; filename="a; filename=b.mp4"`, disposition{"file", "a; filename=b.mp4", true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := parseDisposition(tt.header); err != nil || got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
	for _, header := range []string{"", "attachment; filename=x", "form-data; name=a; name=b", `form-data; name="a`, "form-data; name=père"} {
		if got, err := parseDisposition(header); codeOf(err) != upload.InvalidRequest {
			t.Errorf("%q gave %+v, %v; want %s", header, got, err, upload.InvalidRequest)
		}
	}
}

func FuzzParseDisposition(f *testing.F) {
	for _, seed := range []string{
		`form-data; name="file"; filename="film.mp4"`, `form-data; name="file"; filename="a%22b\"c"`, `form-data; name=file; filename*=UTF-8''p%C3%A8re`,
		`form-data; name="file"; filename*0="a"; filename*1="b"`, `form-data; name="file`, `form-data;;`, `form-data; name="file"; filename="C:\a"`, "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		d, err := parseDisposition(header)
		if err != nil {
			if codeOf(err) == "" {
				t.Errorf("%q gave an error without a code: %v", header, err)
			}
			return
		}
		if d.fileName != "" && !d.hasFileName {
			t.Errorf("%q gave a file name and says it has none", header)
		}
	})
}

// What a correct writer wrote is read back as it was; anything else is refused with a code or read within its bounds.
func FuzzParseForm(f *testing.F) {
	f.Add([]byte(part(`name="file"; filename="f"`, "content")+field("a", "b")+formEnd), "name", "value", []byte("content"))
	f.Add([]byte("--b\n\n--b--"), "", "", []byte(nil))
	f.Add([]byte(part(`name="file"; filename=""`, "")), `a"b`, "\r\n--b", []byte("\r\n--b"))
	f.Add([]byte(formEnd), "file*", "%22", bytes.Repeat([]byte("x"), 5000))
	f.Fuzz(func(t *testing.T, raw []byte, name, value string, content []byte) {
		if got, err := parse(string(raw), 1000); err != nil && codeOf(err) == "" {
			t.Errorf("an error without a code: %v", err)
		} else if len(got.content) > 1000 {
			t.Errorf("%d bytes passed a limit of 1000", len(got.content))
		}

		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		if err := w.WriteField("a", value); err != nil {
			t.Fatal(err)
		}
		part, err := w.CreateFormFile(fileField, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var got []byte
		fields, err := parseForm(&form, w.FormDataContentType(), 1<<20, func(p filePart, _ url.Values) (err error) {
			got, err = io.ReadAll(p)
			return err
		})
		if err != nil {
			if codeOf(err) == "" {
				t.Errorf("an error without a code: %v", err)
			}
			return
		}
		if !bytes.Equal(got, content) || fields.Get("a") != value {
			t.Errorf("got %q and %q, want %q and %q", got, fields.Get("a"), content, value)
		}
	})
}
