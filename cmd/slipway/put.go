package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"slipway/internal/client"
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

func putCommand() *cobra.Command {
	var o putFlags
	c := &cobra.Command{
		Use:     "put FILE...",
		GroupID: "files",
		Short:   "Upload files",
		Long: "Uploads files and prints the URL of each. Without --wait it is a link of Slipway's that leads to the file once it is\n" +
			"delivered; with --wait it is the provider's own.",
		Example: "  slipway put --wait film.mp4\n  slipway put --provider cloudinary --meta album=7 --tag trip *.jpg",
		Args:    cobra.MinimumNArgs(1),
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
			service, err := serviceTelling(show.line)
			if err != nil {
				return err
			}
			defer service.Close()
			p := &putter{putFlags: o, metadata: metadata, kind: kind, cmd: cmd, service: service, show: show}
			return p.run(cmd.Context(), paths)
		},
	}
	f := c.Flags()
	f.StringVar(&o.provider, "provider", "", "where to: uploadcare or cloudinary (default: the service's)")
	f.StringVar(&o.resourceType, "type", "", "kind of asset: image, video or raw (default: by the content)")
	f.StringArrayVar(&o.meta, "meta", nil, "metadata as key=value; may be repeated")
	f.StringSliceVar(&o.tags, "tag", nil, "a tag; may be repeated")
	f.BoolVar(&o.wait, "wait", false, "wait until the provider has the files")
	f.BoolVar(&o.json, "json", false, "print one JSON object for each file")
	complete(c, "provider", "uploadcare", "cloudinary")
	complete(c, "type", "image", "video", "raw")
	return c
}

// complete offers values for a flag to a shell.
func complete(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there
	}
}

func pairs(list []string) (map[string]string, error) {
	m := map[string]string{}
	for _, s := range list {
		key, value, ok := strings.Cut(s, "=")
		if !ok || key == "" {
			return nil, misused("--meta %q: give it as key=value", s)
		}
		m[key] = value
	}
	return m, nil
}

// result is what became of one file.
type result struct {
	File   string         `json:"file"` // as it was given
	Upload *client.Upload `json:"upload,omitempty"`
	Error  *fault         `json:"error,omitempty"`
}

// putter is one run of the command.
type putter struct {
	putFlags
	metadata map[string]string
	kind     upload.ResourceType
	cmd      *cobra.Command
	service  *client.Client
	show     *show
}

// run sends the files one after the other and, if it is to wait, watches them arrive after that: the
// worker does not wait for us.
func (p *putter) run(ctx context.Context, paths []string) error {
	var results []*result
	for _, path := range once(paths, p.show) {
		r := &result{File: path}
		results = append(results, r)
		if interrupted(ctx) {
			r.Error = &fault{Detail: "not sent: interrupted."}
			p.tell(r)
			continue
		}
		p.send(ctx, r)
		if r.Error != nil || !p.wait {
			p.tell(r)
		}
	}
	for _, r := range results {
		if r.Error == nil && p.wait {
			p.await(ctx, r)
			p.tell(r)
		}
	}
	return ended(ctx, results)
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

// tell prints the outcome: URLs to the standard output, the rest beside it.
func (p *putter) tell(r *result) {
	if r.Error != nil {
		p.show.line("%s: %s", printable(r.File), r.Error.Detail)
	}
	if p.json {
		if err := printJSON(p.cmd.OutOrStdout(), r); err != nil {
			p.show.line("%v", err)
		}
		return
	}
	if r.Error == nil {
		fmt.Fprintln(p.cmd.OutOrStdout(), address(*r.Upload))
	}
}

// address is where the world finds an upload.
func address(u client.Upload) string {
	if u.Asset != nil {
		return cmp.Or(u.Asset.URL, u.URL)
	}
	return u.URL
}

func (p *putter) send(ctx context.Context, r *result) {
	f, info, err := openFile(r.File)
	if err != nil {
		r.Error = &fault{Detail: err.Error() + "."}
		return
	}
	defer f.Close()
	name := printable(filepath.Base(r.File))
	leg := p.show.begin(name, "to Slipway", info.Size())
	began := time.Now()
	u, err := p.service.Put(ctx, client.File{
		Name: filepath.Base(r.File), Size: info.Size(), Content: f,
		Provider: p.provider, ResourceType: p.kind, Metadata: p.metadata, Tags: p.tags,
		Progress: leg.at,
	})
	leg.end()
	switch {
	case interrupted(ctx) && errors.Is(err, context.Canceled):
		r.Error = &fault{Detail: "interrupted; nothing of it was kept."}
		if silent := (*client.UnreachableError)(nil); errors.As(err, &silent) && silent.Unknown {
			r.Error = &fault{Detail: "interrupted before it was answered; it may have been accepted all the same: look with `slipway list`."}
		}
		return
	case err != nil:
		r.Error = faultOf(err)
		return
	}
	r.Upload = &u
	p.show.line("%s: received, %s in %s; its id is %s", name, size(u.Size), time.Since(began).Round(10*time.Millisecond), u.ID)
	if now, err := f.Stat(); err == nil && (now.Size() != info.Size() || !now.ModTime().Equal(info.ModTime())) {
		p.show.line("%s changed while it was being sent; what was received may be a mixture of old and new", name)
	}
}

// await watches the upload until nothing more happens to it.
func (p *putter) await(ctx context.Context, r *result) {
	name := printable(filepath.Base(r.File))
	leg := p.show.begin(name, "to "+r.Upload.Provider, r.Upload.Size)
	said := ""
	u, err := p.service.Await(ctx, r.Upload.ID, func(u client.Upload) {
		leg.at(u.Pushed)
		if u.Status == upload.Retrying || u.Error == nil {
			leg.state(string(u.Status))
		}
		if u.Error != nil && !u.Status.Final() && u.Error.Message != said {
			said = u.Error.Message
			p.show.line("%s: %s%s", name, u.Error.Message, again(u))
		}
	})
	leg.end()
	switch {
	case interrupted(ctx) && errors.Is(err, context.Canceled):
		r.Error = &fault{Detail: fmt.Sprintf("not waited for any longer; it goes on by itself: `slipway status %s`.", r.Upload.ID)}
		return
	case err != nil:
		r.Error = faultOf(err)
		r.Error.Detail += fmt.Sprintf(" The upload goes on by itself: `slipway status %s`.", r.Upload.ID)
		return
	}
	r.Upload = &u
	if u.Status != upload.Completed {
		r.Error = outcome(u)
		return
	}
	p.show.line("%s: delivered to %s", name, u.Provider)
}

// again says when an upload that waits goes on.
func again(u client.Upload) string {
	if u.NextAttemptAt == nil {
		return ""
	}
	return " It goes on at " + u.NextAttemptAt.Local().Format(time.TimeOnly) + "."
}

// outcome is why an upload did not arrive.
func outcome(u client.Upload) *fault {
	f := &fault{Detail: fmt.Sprintf("the upload is %s.", u.Status)}
	if u.Error != nil {
		f.Code, f.Detail = u.Error.Code, u.Error.Message
	}
	if u.Links.Retry != nil {
		f.Detail += fmt.Sprintf(" To try again: `slipway retry %s`.", u.ID)
	}
	return f
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
