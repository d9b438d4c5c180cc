package replay

import (
	"context"
	"fmt"
	"io"

	"memtrace/format"
	"memtrace/format/addr"
)

// ByteRun is neighbouring bytes that differ between two steps, and are known at both.
type ByteRun struct {
	Addr     addr.Addr
	Old, New []byte // of equal length
}

// twoPages is a page that changed, at both steps, and which of its bytes are known.
type twoPages struct {
	old, new     [addr.PageSize]byte
	inOld, inNew [addr.PageSize]bool
}

// differs says whether byte i is known at both steps and differs.
func (p *twoPages) differs(i int) bool { return p.inOld[i] && p.inNew[i] && p.old[i] != p.new[i] }

// changedPages calls f for each page of d that changed.
func (t *Trace) changedPages(ctx context.Context, d *Difference, f func(addr.Addr, *twoPages) error) error {
	sides := [2]*AddressSpace{}
	for i, n := range [2]format.Step{d.From, d.To} {
		v, err := t.At(n)
		if err != nil {
			return err
		}
		p, err := v.Process(d.PID)
		if err != nil {
			return err
		}
		if sides[i], err = p.Space(); err != nil {
			return err
		}
	}
	for _, run := range d.Pages {
		if run.What != PageChanged {
			continue
		}
		for at := run.Range.Start; at < run.Range.End; at += addr.PageSize {
			if err := ctx.Err(); err != nil {
				return err
			}
			var p twoPages
			if err := sides[0].known(at, &p.old, &p.inOld); err != nil {
				return err
			}
			if err := sides[1].known(at, &p.new, &p.inNew); err != nil {
				return err
			}
			if err := f(at, &p); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteBytes writes what differs in the changed pages of d, 16 bytes a line: "-"
// as they were, "+" as they are.
func (t *Trace) WriteBytes(ctx context.Context, w io.Writer, d *Difference) error {
	var b []byte
	return t.changedPages(ctx, d, func(at addr.Addr, p *twoPages) error {
		b = b[:0]
		for i := 0; i < addr.PageSize; i += 16 {
			differ := false
			for k := i; k < i+16; k++ {
				differ = differ || p.differs(k)
			}
			if !differ {
				continue
			}
			b = hexLine(append(b, '-'), at+addr.Addr(i), p.old[i:i+16], p.inOld[i:i+16])
			b = hexLine(append(b, '+'), at+addr.Addr(i), p.new[i:i+16], p.inNew[i:i+16])
		}
		_, err := w.Write(b)
		return err
	})
}

// MaxByteRuns is how many bytes ByteRuns tells of at most.
const MaxByteRuns = 16 << 20

// ByteRuns are the bytes that differ in the changed pages of d, not nil.
func (t *Trace) ByteRuns(ctx context.Context, d *Difference) ([]ByteRun, error) {
	out := []ByteRun{}
	n := 0
	err := t.changedPages(ctx, d, func(at addr.Addr, p *twoPages) error {
		for i := 0; i < addr.PageSize; i++ {
			if !p.differs(i) {
				continue
			}
			k := i
			for k < addr.PageSize && p.differs(k) {
				k++
			}
			a := at + addr.Addr(i)
			if n += k - i; n > MaxByteRuns {
				return fmt.Errorf("more than %d bytes differ: --top N tells of fewer pages", MaxByteRuns)
			}
			if l := len(out) - 1; l >= 0 && out[l].Addr+addr.Addr(len(out[l].Old)) == a {
				out[l].Old, out[l].New = append(out[l].Old, p.old[i:k]...), append(out[l].New, p.new[i:k]...)
			} else {
				out = append(out, ByteRun{a, append([]byte(nil), p.old[i:k]...), append([]byte(nil), p.new[i:k]...)})
			}
			i = k
		}
		return nil
	})
	return out, err
}

// hexLine appends a line of bytes; those that are not known are "??".
func hexLine(b []byte, a addr.Addr, p []byte, known []bool) []byte {
	b = fmt.Appendf(b, "%012x ", uint64(a))
	for i := range p {
		if known[i] {
			b = fmt.Appendf(b, " %02x", p[i])
		} else {
			b = append(b, " ??"...)
		}
	}
	b = append(b, "  |"...)
	return append(appendText(b, p), "|\n"...)
}

// appendText appends bytes as hexdump -C shows them at the right.
func appendText(b, p []byte) []byte {
	for _, c := range p {
		if c < ' ' || c > '~' {
			c = '.'
		}
		b = append(b, c)
	}
	return b
}
