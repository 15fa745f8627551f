package ingest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"slipway/internal/upload"
)

// Sniffed is how many bytes of a file tell its type.
const Sniffed = 3072

// Rules say which files may come in, by what their content is. A pattern is a type, such as "video/mp4", all of
// a kind, "image/*", or with a "!" before it what is refused although another pattern allows it.
type Rules struct {
	Types []string  // that are allowed; none is every type
	Sizes []MaxSize // a type before its kind
}

// MaxSize is the most bytes in a file of the types that a pattern names.
type MaxSize struct {
	Type  string `json:"type"`
	Bytes int64  `json:"max_bytes"`
}

// Pass is what lets a file in: its type, and how large it may become.
type Pass struct {
	Type string // by the content
	Most int64  // bytes; 0 is any number

	over *upload.Error // what a larger file is refused with
}

// Inspect decides by a file's first bytes, Sniffed of them or all of a shorter file, whether it may come in: what its
// name or its sender says of it does not count. While the request is unfinished, it is enough that it may become one
// with which the file may come in. Errors: EmptyFile, TypeNotAllowed, TooLarge and TooLargeForProvider by the length that is declared.
func (in *Ingest) Inspect(ctx context.Context, r Request, head []byte) (Pass, error) {
	if len(head) == 0 {
		return Pass{}, errEmpty()
	}
	content := mimetype.Detect(head).String()
	likely := r
	likely.Provider = cmp.Or(r.Provider, in.DefaultProvider)
	pass, err := in.inspect(ctx, likely, content)
	if !r.Unfinished {
		return pass, err
	}
	for r := range in.becoming(r) {
		other, refused := in.inspect(ctx, r, content)
		switch {
		case refused != nil:
		case err != nil:
			pass, err = other, nil
		case other.Most == 0 || pass.Most != 0 && other.Most > pass.Most:
			pass = other
		}
	}
	return pass, err
}

// becoming are the requests that an unfinished one may become.
func (in *Ingest) becoming(r Request) iter.Seq[Request] {
	providers, types := []string{r.Provider}, []string{r.ResourceType}
	if r.Provider == "" {
		providers = in.Providers
	}
	if r.ResourceType == "" {
		types = []string{"", string(upload.Image), string(upload.Video), string(upload.Raw)}
	}
	return func(yield func(Request) bool) {
		for _, r.Provider = range providers {
			for _, r.ResourceType = range types {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// inspectStaged tells whether a file that has come in may go to the upload's provider. Errors are as Inspect's;
// StagingUnreachable.
func (in *Ingest) inspectStaged(ctx context.Context, u upload.Upload) error {
	if rules := in.ProviderRules[u.Provider]; rules.Types == nil && rules.Sizes == nil {
		if err := in.knows(u.Provider); err != nil {
			return err
		}
		return in.takes(ctx, u, true)
	}
	file, err := in.Staging.Open(ctx, u.ID, u.Segments...)
	if err != nil {
		return errUnread(u.ID, err)
	}
	defer file.Close()
	head := make([]byte, Sniffed)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return errUnread(u.ID, err)
	}
	_, err = in.Inspect(ctx, Request{Provider: u.Provider, ResourceType: string(u.ResourceType), Length: u.Size}, head[:n])
	return err
}

func errUnread(id upload.ID, cause error) error {
	return &upload.Error{Code: upload.StagingUnreachable, Retryable: true, FixableBy: upload.ByOperator, UploadID: id, Cause: cause,
		Message: "The stored copy of the file cannot be read at the moment; try again later."}
}

// inspect is Inspect for a file whose type is known and whose provider is named.
func (in *Ingest) inspect(ctx context.Context, r Request, content string) (Pass, error) {
	asked, err := upload.ParseResourceType(r.ResourceType)
	if err != nil {
		return Pass{}, err
	}
	p, err := in.gate(ctx, r.Provider, cmp.Or(asked, resourceType(content)), content)
	if err == nil {
		err = p.Fits(r.Length)
	}
	return p, err
}

// gate is the one place where a type and a provider decide. Errors: UnknownProvider, TypeNotAllowed, Unavailable.
func (in *Ingest) gate(ctx context.Context, provider string, rt upload.ResourceType, content string) (Pass, error) {
	p := Pass{Type: content}
	if err := in.knows(provider); err != nil {
		return p, err
	}
	if in.MaxBytes > 0 {
		p.limit(in.MaxBytes, errTooLarge(in.MaxBytes))
	}
	name := bare(content)
	for _, rules := range []struct {
		Rules
		whose string
	}{{in.Rules, ""}, {in.ProviderRules[provider], " for " + provider}} {
		if !rules.allow(content) {
			return p, &upload.Error{Code: upload.TypeNotAllowed, FixableBy: upload.ByYou,
				Message: fmt.Sprintf("By its content the file is %s, which is not accepted%s. Accepted are: %s.", name, rules.whose, strings.Join(rules.Types, ", "))}
		}
		if most := rules.most(content); most > 0 {
			p.limit(most, &upload.Error{Code: upload.TooLarge, FixableBy: upload.ByYou,
				Message: fmt.Sprintf("The file is larger than %s, the most that is accepted of %s%s.", size(most), name, rules.whose)})
		}
	}
	plan, err := in.limits.of(ctx, in.Pool, provider, rt, true)
	if err != nil {
		return p, unavailable(err)
	}
	if plan > 0 {
		p.limit(plan, errTooLargeFor(provider, plan))
	}
	return p, nil
}

// limit lowers the most bytes to n, if they are not lower already.
func (p *Pass) limit(n int64, over *upload.Error) {
	if p.Most == 0 || n < p.Most {
		p.Most, p.over = n, over
	}
}

func errTooLarge(most int64) *upload.Error {
	return &upload.Error{Code: upload.TooLarge, FixableBy: upload.ByYou,
		Message: fmt.Sprintf("The file is larger than %s, the most that is accepted.", size(most))}
}

func errTooLargeFor(provider string, most int64) *upload.Error {
	return &upload.Error{Code: upload.TooLargeForProvider, FixableBy: upload.ByYou,
		Message: fmt.Sprintf("The file is larger than %s, the most that the %s account takes in a file of this type.", size(most), provider)}
}

// Fits returns why a file of n bytes is too large, or nil; below 0 they are not known yet.
func (p Pass) Fits(n int64) error {
	if p.Most > 0 && n > p.Most {
		return p.over
	}
	return nil
}

// Within reads body and ends with the refusal at the first byte that is too many.
func (p Pass) Within(body io.Reader) io.Reader {
	if p.Most == 0 {
		return body
	}
	return &within{body: body, left: p.Most, over: p.over}
}

type within struct {
	body io.Reader
	left int64
	over *upload.Error
}

func (w *within) Read(b []byte) (int, error) {
	if int64(len(b)) > w.left {
		b = b[:w.left+1] // one byte more tells a file that ends here from one that goes on
	}
	n, err := w.body.Read(b)
	if int64(n) > w.left {
		n, err = int(w.left), w.over
	}
	w.left -= int64(n)
	return n, err
}

// allow tells whether a file with this content may come in. Refusals alone leave everything else allowed.
func (r Rules) allow(content string) bool {
	named, allowed := false, false
	for _, pattern := range r.Types {
		refused, isRefusal := strings.CutPrefix(pattern, "!")
		if isRefusal && matches(refused, content) {
			return false
		}
		named = named || !isRefusal
		allowed = allowed || !isRefusal && matches(pattern, content)
	}
	return allowed || !named
}

// most is the most bytes in a file with this content, 0 is any number.
func (r Rules) most(content string) int64 {
	for _, kind := range []bool{false, true} {
		i := slices.IndexFunc(r.Sizes, func(s MaxSize) bool {
			return strings.HasSuffix(s.Type, "/*") == kind && matches(s.Type, content)
		})
		if i >= 0 {
			return r.Sizes[i].Bytes
		}
	}
	return 0
}

// matches tells whether a pattern without "!" names the type of this content, be it by one of its other names.
func matches(pattern, content string) bool {
	if kind, isKind := strings.CutSuffix(pattern, "/*"); isKind {
		return strings.HasPrefix(content, kind+"/")
	}
	m := mimetype.Lookup(bare(content))
	return m != nil && m.Is(pattern)
}

// bare is a type without its parameters.
func bare(contentType string) string {
	t, _, _ := strings.Cut(contentType, ";")
	return t
}
