package cloudinary

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"slipway/internal/provider"
)

// outgoing is the body of one request. The transport may still read it when the answer is already
// there, so that what was sent is only known once it has been stopped.
type outgoing struct {
	form   io.Reader // the form's parts and file, in order
	file   *provider.Body
	length int64 // bytes that file must have

	mu      sync.Mutex
	stopped bool
	err     error // why staging could not be read
}

func newOutgoing(f form, src io.ReaderAt, offset, length int64, carry []byte) (*outgoing, error) {
	file, err := provider.NewBody(src, offset, length).WithMD5(carry)
	if err != nil {
		return nil, err
	}
	o := &outgoing{file: file, length: length}
	o.form = io.MultiReader(bytes.NewReader(f.before), staged{o}, bytes.NewReader(f.after))
	return o, nil
}

func (o *outgoing) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return 0, io.ErrClosedPipe
	}
	return o.form.Read(p)
}

func (o *outgoing) Close() error {
	o.stop()
	return nil
}

// stop ends the body; what it has sent stays as it is from here on.
func (o *outgoing) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stopped = true
}

// whole tells, of a stopped body, whether every byte of the file has left. If not, the request
// could not be completed, and nothing can have come of it.
func (o *outgoing) whole() bool { return o.file.Sent() == o.length }

// staged is the file in an outgoing body; it must not end early.
type staged struct{ *outgoing }

func (s staged) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	if err == io.EOF && s.file.Sent() < s.length {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("read staged bytes: %w", err)
		s.err = err
	}
	return n, err
}
