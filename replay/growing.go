package replay

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"memtrace/format"
)

// Growing is a log that may still be written to: a file, or what comes through a pipe.
type Growing struct {
	*Trace
	f      *os.File
	opt    *format.ReaderOptions
	copied chan error // of a pipe: how its end came
	ended  bool
}

// poll is how often a growing log is looked at.
const poll = 200 * time.Millisecond

// OpenGrowing opens a log that may still be written to; "-" is standard input. It waits
// until the log has begun.
func OpenGrowing(ctx context.Context, name string, o *format.ReaderOptions) (*Growing, error) {
	g := &Growing{opt: o}
	var closer func() error
	var err error
	if name == "-" && !regularInput() {
		closer, err = g.spool()
	} else {
		g.f, closer, err = openFile(name)
	}
	if err != nil {
		return nil, err
	}
	for {
		over := g.over()
		r, size, err := g.read()
		if err == nil {
			g.Trace = New(r)
			g.Trace.close, g.written = closer, !over
			return g, nil
		}
		begun := size >= beginning && !errors.Is(err, format.ErrTruncated)
		if over || begun || g.sleep(ctx) != nil {
			return nil, errors.Join(err, ctx.Err(), closer())
		}
	}
}

func regularInput() bool {
	fi, err := os.Stdin.Stat()
	return err == nil && fi.Mode().IsRegular()
}

// spool copies standard input to a file while it comes.
func (g *Growing) spool() (closer func() error, err error) {
	if g.f, closer, err = spoolFile(); err != nil {
		return nil, err
	}
	g.copied = make(chan error, 1)
	w := g.f
	go func() {
		_, err := io.Copy(w, os.Stdin)
		g.copied <- err
	}()
	return closer, nil
}

// beginning is how many bytes tell whether a file is a log.
const beginning = 8

// over reports whether nothing more can come. What was there before it was asked is all
// there is then.
func (g *Growing) over() bool {
	if g.ended {
		return true
	}
	if g.copied != nil {
		select {
		case <-g.copied:
			g.ended = true
		default:
		}
	} else {
		g.ended = !beingWritten(g.f)
	}
	return g.ended
}

// read reads the log as it is now, and says how large it is.
func (g *Growing) read() (r *format.Reader, size int64, err error) {
	fi, err := g.f.Stat()
	if err != nil {
		return nil, beginning, err
	}
	r, err = format.NewReader(g.f, fi.Size(), g.opt)
	return r, fi.Size(), err
}

func (g *Growing) sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(poll):
		return nil
	}
}

// Grow waits until the log has more events than it had, and has the Trace know of them. It
// reports false when there will be none.
func (g *Growing) Grow(ctx context.Context) (bool, error) {
	for {
		if !g.Truncated() {
			return false, nil
		}
		over := g.over()
		r, _, err := g.read()
		if err != nil {
			return false, err
		}
		more := r.Steps() > g.Steps()
		if more || !r.Truncated() {
			g.grown(r)
		}
		g.written = !over
		if more || over || !r.Truncated() {
			return more, nil
		}
		if err := g.sleep(ctx); err != nil {
			return false, err
		}
	}
}

// Now is the log as far as it is known, as a Trace of its own that does not grow. It is to be closed before
// the log.
func (g *Growing) Now() *Trace {
	t := New(g.r)
	t.written = g.written
	return t
}

// grown has the trace read r. What was found out of the log as it was is forgotten, but for
// what more events do not change.
func (t *Trace) grown(r *format.Reader) {
	t.r = r
	t.symbols.texts = r.Texts()
	t.history.Lock()
	defer t.history.Unlock()
	t.history.done, t.history.list = false, nil
}
