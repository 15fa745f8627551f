package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"slipway/internal/client"
	"slipway/internal/client/bookmark"
	"slipway/internal/upload"
)

// putFlags are what is said of all files of one command.
type putFlags struct {
	provider     string
	resourceType string
	meta         []string
	tags         []string
	wait         bool
	json         bool
}

const (
	sentAtOnce    = 3  // files
	watchedAtOnce = 16 // uploads on their way to their providers
)

func putCommand() *cobra.Command {
	var o putFlags
	c := &cobra.Command{
		Use:     "put FILE...",
		GroupID: "files",
		Short:   "Upload files, and go on with those that were interrupted",
		Long: "Uploads files, several at a time, and prints the URL of each. Without --wait it is a link of Slipway's that leads to\n" +
			"the file once it is delivered; with --wait it is the provider's own.\n\n" +
			"A lost connection or a restart of the service is waited for. What is interrupted by Ctrl-C, or by anything else,\n" +
			"goes on where it stopped when the same command is given again, as long as the file is as it was and the service\n" +
			"keeps what has come of it (24 hours by default). Once a file is received Slipway delivers it by itself.",
		Example: "  slipway put --wait film.mp4\n  slipway put --provider cloudinary --meta album=7 --tag trip *.jpg\n" +
			"  slipway put --json *.mov | jq -r 'select(.error) | .file'",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			metadata, err := pairs(o.meta)
			if err != nil {
				return err
			}
			kind, err := upload.ParseResourceType(o.resourceType)
			if err != nil {
				return misused("%w", err)
			}
			show := newShow(cmd.ErrOrStderr())
			defer show.close()
			service, err := serviceTelling(show.line)
			if err != nil {
				return err
			}
			defer service.Close()
			p := &putter{putFlags: o, metadata: metadata, kind: kind, out: cmd.OutOrStdout(), service: service, show: show}
			if p.shelf, err = bookmark.Open(); err != nil {
				show.line("what is interrupted cannot be gone on with: %v", err)
			}
			return p.run(cmd.Context(), paths)
		},
	}
	f := c.Flags()
	f.StringVar(&o.provider, "provider", "", "where to: uploadcare or cloudinary (default: the service's)")
	f.StringVar(&o.resourceType, "type", "", "kind of asset: image, video or raw (default: by the content)")
	f.StringArrayVar(&o.meta, "meta", nil, "metadata as key=value; may be repeated")
	f.StringSliceVar(&o.tags, "tag", nil, "a tag; may be repeated")
	f.BoolVar(&o.wait, "wait", false, "wait until the provider has the files")
	f.BoolVar(&o.json, "json", false, "print one JSON object for each file, when it is done")
	completeProviders(c, "provider")
	complete(c, "type", "image", "video", "raw")
	return c
}

// complete offers values for a flag to a shell.
func complete(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there
	}
}

var metadataKey = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)

func pairs(list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		switch {
		case !ok || key == "" || value == "":
			return nil, misused("--meta %q: give it as key=value", s)
		case !metadataKey.MatchString(key):
			return nil, misused("--meta %q: a key is 1 to 64 of A-Z a-z 0-9 _ . : -", s)
		case client.Reserved(key):
			return nil, misused("--meta %q: %s says something else of a file; name it otherwise", s, key)
		}
		m[key] = value
	}
	return m, nil
}

// result is what became of one file.
type result struct {
	File     string         `json:"file"` // as it was given
	Upload   *client.Upload `json:"upload,omitempty"`
	Received int64          `json:"received_bytes,omitempty"` // of a file that was broken off: from where it goes on
	Error    *fault         `json:"error,omitempty"`

	row  int  // among the files
	told bool // the person knows
}

// putter is one run of the command.
type putter struct {
	putFlags
	metadata map[string]string
	kind     upload.ResourceType
	out      io.Writer
	service  *client.Client
	shelf    *bookmark.Shelf // nil: there is nowhere to keep bookmarks
	show     *show

	mu      sync.Mutex
	results []*result
	next    int // of results, whose URL has its turn
}

// run sends the files, some at a time, and, if it is to wait, watches each arrive once it is sent.
func (p *putter) run(ctx context.Context, paths []string) error {
	for row, path := range once(paths, p.show) {
		p.results = append(p.results, &result{File: path, row: row})
	}
	var files sync.WaitGroup
	sending, watching := make(chan struct{}, sentAtOnce), make(chan struct{}, watchedAtOnce)
	for _, r := range p.results {
		sending <- struct{}{}
		files.Go(func() {
			p.send(ctx, r)
			<-sending
			if r.Error == nil && p.wait {
				watching <- struct{}{}
				p.await(ctx, r)
				<-watching
			}
			p.tell(r)
		})
	}
	files.Wait()
	return ended(ctx, p.results)
}

// ended is what all of the files came to.
func ended(ctx context.Context, results []*result) error {
	failed, unsent := 0, 0
	for _, r := range results {
		if r.Error != nil {
			failed++
			if r.Upload == nil {
				unsent++
			}
		}
	}
	e := &ending{exitNotDelivered, fmt.Errorf("%d of %d files are not where they should be", failed, len(results))}
	switch {
	case failed == 0:
		return nil
	case interrupted(ctx):
		e.code = exitInterrupted
	case unsent > 0:
		e.code = exitFailed
	}
	if len(results) == 1 {
		e.err = errors.New("the file is not where it should be")
	}
	return e
}

// tell prints the outcome of a file: JSON at once, URLs in the order of the files, and what went wrong beside it.
func (p *putter) tell(r *result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.told = true
	if r.Error != nil {
		p.show.line("%s: %s", printable(r.File), printable(r.Error.Detail))
	}
	var out bytes.Buffer
	if p.json {
		if err := printJSON(&out, r); err != nil {
			p.show.line("%v", err)
		}
	}
	for ; p.next < len(p.results) && p.results[p.next].told; p.next++ {
		switch r := p.results[p.next]; {
		case r.Error != nil, p.json:
		case p.wait:
			fmt.Fprintln(&out, address(*r.Upload))
		default: // also when it has been delivered already
			fmt.Fprintln(&out, r.Upload.URL)
		}
	}
	p.show.write(p.out, out.Bytes())
}

// address is where the world finds an upload.
func address(u client.Upload) string {
	if u.Asset != nil {
		return cmp.Or(u.Asset.URL, u.URL)
	}
	return u.URL
}

// once leaves out what is given twice.
func once(paths []string, s *show) []string {
	var unique []string
	var known []os.FileInfo
next:
	for _, path := range paths {
		info, err := os.Stat(path)
		for i, k := range known {
			if err == nil && k != nil && os.SameFile(info, k) {
				s.line("%s: given twice (%s); it is sent once", printable(path), printable(unique[i]))
				continue next
			}
		}
		unique, known = append(unique, path), append(known, info)
	}
	return unique
}

// openFile opens what can be sent.
func openFile(path string) (*os.File, os.FileInfo, error) {
	if path == "-" {
		return nil, nil, errors.New("what comes by a pipe has no name and no length; write it to a file first")
	}
	info, err := os.Stat(path) // before it is opened: the opening of a pipe would wait for its other end
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil, errors.New("there is no such file")
	case err != nil:
		return nil, nil, fmt.Errorf("it cannot be looked at: %w", cause(err))
	case info.IsDir():
		return nil, nil, errors.New("it is a folder; name the files in it")
	case !info.Mode().IsRegular():
		return nil, nil, errors.New("it is no ordinary file")
	case info.Size() == 0:
		return nil, nil, errors.New("it is empty; there is nothing to deliver")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("it cannot be read: %w", cause(err))
	}
	return f, info, nil
}

// cause is an error of the file system without the operation and the path.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// size is a number of bytes as a person reads it.
func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
