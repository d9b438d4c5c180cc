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
		r, err := g.read()
		if err == nil {
			g.Trace = New(r)
			g.Trace.close = closer
			return g, nil
		}
		if over || !errors.Is(err, format.ErrTruncated) && !g.empty() || g.sleep(ctx) != nil {
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
	if g.f, err = os.CreateTemp("", "memtrace-*.spool"); err != nil {
		return nil, err
	}
	g.copied = make(chan error, 1)
	w := g.f
	go func() {
		_, err := io.Copy(w, os.Stdin)
		g.copied <- err
	}()
	return func() error { return errors.Join(w.Close(), os.Remove(w.Name())) }, nil
}

func (g *Growing) empty() bool {
	fi, err := g.f.Stat()
	return err == nil && fi.Size() == 0
}

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

func (g *Growing) read() (*format.Reader, error) {
	fi, err := g.f.Stat()
	if err != nil {
		return nil, err
	}
	return format.NewReader(g.f, fi.Size(), g.opt)
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
		r, err := g.read()
		if err != nil {
			return false, err
		}
		more := r.Steps() > g.Steps()
		if more || !r.Truncated() {
			g.grown(r)
		}
		if more || over || !r.Truncated() {
			return more, nil
		}
		if err := g.sleep(ctx); err != nil {
			return false, err
		}
	}
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
