package redact

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"memtrace/format"
)

// KeySize is how many bytes a key of pseudonyms has.
const KeySize = 32

// NewKey is a random key.
func NewKey() ([]byte, error) {
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(rand.Reader, key); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}

// Copy writes to w what a policy leaves of a log. The copy has the steps of the log, but
// a salt of its own. It is a log without an inventory: Count makes one.
func Copy(ctx context.Context, r *format.Reader, p *Policy, key []byte, w io.Writer) error {
	h, err := p.Header(r.Header(), key)
	if err != nil {
		return err
	}
	h.Inventory = Room()
	out, err := format.NewWriter(w, h, &format.WriterOptions{FlushInterval: -time.Second})
	if err != nil {
		return err
	}
	c := copier{r: r, Filter: NewFilter(out, p, key)}
	c.fetch = r.Page
	if err := c.all(ctx); err != nil {
		_ = out.Close("failed")
		return err
	}
	return c.Close(r.Info().Reason)
}

type copier struct {
	*Filter
	r       *format.Reader
	nodes   format.StackNode // of stacks, copied so far
	modules format.ModuleNo
}

// all copies everything, in the order of the log.
func (c *copier) all(ctx context.Context) error {
	for t, err := range c.r.Texts() {
		if err == nil {
			err = c.Text(t)
		}
		if err != nil {
			return err
		}
	}
	item, stop := iter.Pull2(c.r.Refs(0, format.NoStep))
	defer stop()
	x, err, more := item()
	refs := func(before format.Step) error {
		for ; more; x, err, more = item() {
			if err != nil {
				return err
			}
			if after(x) > before {
				return nil
			}
			if e := c.ref(x); e != nil {
				return e
			}
		}
		return nil
	}
	n := 0
	for e, err := range c.r.Events(0) {
		if err == nil {
			err = refs(e.Step)
		}
		if err == nil && e.Stack != 0 {
			err = c.stacks(e.Stack)
		}
		if err == nil {
			_, err = c.Event(e)
		}
		if n++; err == nil && n%1024 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
	return refs(format.NoStep)
}

// after is how many steps had happened before an item.
func after(x *format.RefItem) format.Step {
	if x.Phase != nil {
		return x.Phase.After
	}
	return x.After
}

func (c *copier) ref(x *format.RefItem) error {
	if x.Phase != nil {
		return c.Phase(x.Phase)
	}
	return c.Ref(&x.Ref)
}

// stacks copies the tree of stacks up to a node. Modules and nodes keep their numbers.
func (c *copier) stacks(upTo format.StackNode) error {
	for c.nodes = max(c.nodes, format.FirstNode-1); c.nodes < upTo; c.nodes++ {
		n := c.nodes + 1
		frame, caller, err := c.r.StackFrame(n)
		if err != nil {
			return err
		}
		for c.modules < frame.Module {
			m, err := c.r.Module(c.modules + 1)
			if err != nil {
				return err
			}
			if c.modules, err = c.Module(m); err != nil {
				return err
			}
		}
		end := format.StackUnknown
		if caller < format.FirstNode {
			caller, end = 0, format.StackEnd(caller)
		}
		got, err := c.Stack([]format.RawFrame{frame.RawFrame}, caller, end)
		if err == nil && got != n {
			err = fmt.Errorf("%w: node %d of the tree of stacks is also node %d", format.ErrCorrupt, n, got)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// File is where a redacted log is made: it is written, read back, and its header
// written once more.
type File interface {
	io.Writer
	io.ReaderAt
	io.WriterAt
}

// Make writes to an empty file what a policy leaves of a log, verifies it, counts what is
// in it and writes that into its header. Where something is there that the policy does
// not allow, the error is a *NotEmptyError. o are the choices of a reader.
func Make(ctx context.Context, r *format.Reader, o *format.ReaderOptions, p *Policy, key []byte, w File) (*Proof, error) {
	size := new(sizer)
	if err := Copy(ctx, r, p, key, io.MultiWriter(w, size)); err != nil {
		return nil, err
	}
	if _, err := format.Verify(w, size.n, o, nil); err != nil {
		return nil, fmt.Errorf("what was written does not make a whole log: %w", err)
	}
	return Prove(w, size.n, o, p)
}

// Prove counts what is in a log that a policy's Filter wrote, and writes that into its header, which
// has Room. Where something is there that the policy does not allow, the error is a *NotEmptyError.
func Prove(w File, size int64, o *format.ReaderOptions, p *Policy) (*Proof, error) {
	out, err := format.NewReader(w, size, o)
	if err != nil {
		return nil, err
	}
	said, err := FromHeader(out.Header().Redacted) // what the log says of itself is proved
	if err != nil {
		return nil, err
	}
	said.matches = p.matches
	proof, err := Count(w, size, o, said)
	if err != nil {
		return nil, fmt.Errorf("read back what was written: %w", err)
	}
	if proof.Total > 0 {
		return proof, &NotEmptyError{proof}
	}
	return proof, PutInventory(w, out.Header(), &proof.Inventory)
}

// NotEmptyError says that a log has what its policy does not allow.
type NotEmptyError struct{ Proof *Proof }

func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("something is left that should not be, in %d places; the first is %v", e.Proof.Total, e.Proof.Broken[0])
}

type sizer struct{ n int64 }

func (s *sizer) Write(b []byte) (int, error) {
	s.n += int64(len(b))
	return len(b), nil
}

// Check counts what a redacted log has, compares that with the policy in its header and with
// the inventory there. rules, if not nil, are what the log was redacted with, for what it does not say itself.
func Check(r io.ReaderAt, size int64, o *format.ReaderOptions, rules *Policy) (*Proof, error) {
	rd, err := format.NewReader(r, size, o)
	if err != nil {
		return nil, err
	}
	h := rd.Header()
	if h.Redacted == "" {
		return nil, fmt.Errorf("the log was not redacted")
	}
	p, err := FromHeader(h.Redacted)
	if err != nil {
		return nil, err
	}
	if rules != nil {
		p.matches = rules.matches
	}
	proof, err := Count(r, size, o, p)
	switch {
	case err != nil:
		return nil, err
	case proof.Total > 0:
		return proof, &NotEmptyError{proof}
	case strings.TrimSpace(h.Inventory) != "" && strings.TrimRight(h.Inventory, " ") != proof.Inventory.String():
		return proof, fmt.Errorf("%w: its inventory says %q, and there is %q", format.ErrCorrupt, strings.TrimRight(h.Inventory, " "), proof.Inventory.String())
	}
	return proof, nil
}
