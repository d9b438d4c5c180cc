package replay

import (
	"bytes"
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
			if _, err := sides[0].Page(a, &x); err != nil {
				return err
			}
			if _, err := sides[1].Page(a, &y); err != nil {
				return err
			}
			b = b[:0]
			for i := 0; i < addr.PageSize; i += 16 {
				if bytes.Equal(x[i:i+16], y[i:i+16]) {
					continue
				}
				b = hexLine(append(b, '-'), a+addr.Addr(i), x[i:i+16])
				b = hexLine(append(b, '+'), a+addr.Addr(i), y[i:i+16])
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

func hexLine(b []byte, a addr.Addr, p []byte) []byte {
	b = fmt.Appendf(b, "%012x  % x  |", uint64(a), p)
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
