package replay

import (
	"context"
	"fmt"
	"io"

	"memtrace/format"
	"memtrace/format/addr"
)

// WriteBytes writes what differs in the changed pages of d, 16 bytes a line: "-"
// as they were, "+" as they are.
func (t *Trace) WriteBytes(ctx context.Context, w io.Writer, d *Difference) error {
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
	var b []byte
	for _, run := range d.Pages {
		if run.What != PageChanged {
			continue
		}
		for a := run.Range.Start; a < run.Range.End; a += addr.PageSize {
			if err := ctx.Err(); err != nil {
				return err
			}
			var x, y [addr.PageSize]byte
			var inX, inY [addr.PageSize]bool
			if err := sides[0].known(a, &x, &inX); err != nil {
				return err
			}
			if err := sides[1].known(a, &y, &inY); err != nil {
				return err
			}
			b = b[:0]
			for i := 0; i < addr.PageSize; i += 16 {
				differ := false
				for k := i; k < i+16; k++ {
					differ = differ || inX[k] && inY[k] && x[k] != y[k]
				}
				if !differ {
					continue
				}
				b = hexLine(append(b, '-'), a+addr.Addr(i), x[i:i+16], inX[i:i+16])
				b = hexLine(append(b, '+'), a+addr.Addr(i), y[i:i+16], inY[i:i+16])
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
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
