package replay

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Capture says that the bytes of a range are as of an earlier step.
type Capture struct {
	Range addr.Range
	AsOf  format.Step
	Call  bool // by the call of that step; else when they were captured
}

// Append appends how a person is told of it.
func (c *Capture) Append(b []byte) []byte {
	b = fmt.Appendf(b, "%v-%v: as of step %d", c.Range.Start, c.Range.End, c.AsOf)
	if c.Call {
		b = append(b, ", whose call wrote it"...)
	}
	return b
}

// WriteMem writes the bytes of r to w as far as they are known, as they are or
// as hexdump -C does. It returns what of them is older than the step, and the
// error that names the first unknown address.
func (s *AddressSpace) WriteMem(w io.Writer, r addr.Range, raw bool) (older []Capture, err error) {
	var page [addr.PageSize]byte
	d := hexDump{w: w, width: 8}
	if r.End > 1<<32 {
		d.width = 12
	}
	defer func() {
		if !raw {
			if derr := d.end(); err == nil {
				err = derr
			}
		}
	}()
	for at := r.Start; at < r.End; at = pageAt(at).End {
		parts, err := s.Stretches(at, &page)
		if err != nil {
			return older, err
		}
		base := at.PageDown()
		for _, x := range parts {
			start, end := max(at, x.Range.Start), min(r.End, x.Range.End)
			if start >= end {
				continue
			}
			if x.Err != nil {
				return older, from(x.Err, start)
			}
			piece := page[start-base : end-base]
			if raw {
				_, err = w.Write(piece)
			} else {
				err = d.write(start, piece)
			}
			if err != nil {
				return older, err
			}
			if x.AsOf != s.view.Step {
				if n := len(older); n > 0 && older[n-1].AsOf == x.AsOf && older[n-1].Call == x.Call && older[n-1].Range.End == start {
					older[n-1].Range.End = end
				} else {
					older = append(older, Capture{addr.Range{Start: start, End: end}, x.AsOf, x.Call})
				}
			}
		}
	}
	return older, nil
}

// hexDump writes lines of 16 bytes, aligned to the first, with repeated lines
// as "*".
type hexDump struct {
	w     io.Writer
	width int
	at    addr.Addr
	line  []byte // gathered so far, at most 16
	last  []byte
	star  bool
	any   bool
}

func (d *hexDump) write(at addr.Addr, p []byte) error {
	if !d.any {
		d.at, d.any = at, true
	}
	for len(p) > 0 {
		n := min(16-len(d.line), len(p))
		d.line = append(d.line, p[:n]...)
		p = p[n:]
		if len(d.line) == 16 {
			if err := d.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *hexDump) flush() error {
	line := d.line
	d.line = d.line[:0]
	at := d.at
	d.at += addr.Addr(len(line))
	if len(line) == 16 && bytes.Equal(line, d.last) {
		if d.star {
			return nil
		}
		d.star = true
		_, err := io.WriteString(d.w, "*\n")
		return err
	}
	d.last, d.star = append(d.last[:0], line...), false
	b := fmt.Appendf(nil, "%0*x ", d.width, uint64(at))
	for i := range 16 {
		if i%8 == 0 {
			b = append(b, ' ')
		}
		if i < len(line) {
			b = fmt.Appendf(b, "%02x ", line[i])
		} else {
			b = append(b, "   "...)
		}
	}
	b = append(b, " |"...)
	for _, c := range line {
		if c < ' ' || c > '~' {
			c = '.'
		}
		b = append(b, c)
	}
	_, err := d.w.Write(append(b, "|\n"...))
	return err
}

func (d *hexDump) end() error {
	if !d.any {
		return nil
	}
	if len(d.line) > 0 {
		if err := d.flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(d.w, "%0*x\n", d.width, uint64(d.at))
	return err
}

// Write writes the registers of a thread, as many to a line as 80 columns have room for.
func (r *Registers) Write(w io.Writer, at format.Step) error {
	b := fmt.Appendf(nil, "thread %d", r.Thread.TID)
	if r.Values == nil {
		b = append(b, ": registers are not in the log up to this step\n"...)
		_, err := w.Write(b)
		return err
	}
	if r.AsOf != at {
		b = fmt.Appendf(b, ", as of step %d", r.AsOf)
	}
	b = append(b, ":\n"...)
	digits := 2 * r.Thread.Arch.PointerSize()
	row := 79 / (len("  fs_base  0x") + digits)
	names := r.Thread.Arch.Registers()
	for i, v := range r.Values {
		name := "r" + strconv.Itoa(i)
		if i < len(names) {
			name = names[i].Name
		}
		b = fmt.Appendf(b, "  %-8s 0x%0*x", name, digits, v)
		if i%row == row-1 || i == len(r.Values)-1 {
			b = append(b, '\n')
		}
	}
	_, err := w.Write(b)
	return err
}

// AppendJSON appends the registers as a JSON object.
func (r *Registers) AppendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"tid":`...), uint64(r.Thread.TID), 10)
	if r.Values == nil {
		return append(b, `,"registers":null}`...)
	}
	b = strconv.AppendUint(key(b, "as_of"), uint64(r.AsOf), 10)
	b = append(key(b, "registers"), '{')
	names := r.Thread.Arch.Registers()
	for i, v := range r.Values {
		if i > 0 {
			b = append(b, ',')
		}
		if i < len(names) {
			b = hexStr(append(str(b, names[i].Name), ':'), v)
		} else {
			b = hexStr(append(str(b, "r"+strconv.Itoa(i)), ':'), v)
		}
	}
	return append(b, "}}"...)
}

// Write writes the difference for a person: a line a mapping, marked as diff(1)
// does, then a line a run of pages.
// With a clock the times of both steps stand behind them; start is of the recording.
func (d *Difference) Write(w io.Writer, clock Clock, start time.Time) error {
	b := fmt.Appendf(nil, "process %d from step %d", d.PID, d.From)
	if clock != NoClock {
		b = append(clock.AppendTime(append(b, " ["...), start, d.FromTime, 0), ']')
	}
	b = fmt.Appendf(b, " to step %d", d.To)
	if clock != NoClock {
		b = append(clock.AppendTime(append(b, " ["...), start, d.ToTime, 0), ']')
	}
	b = append(b, '\n')
	if d.Replaced {
		b = append(b, "it has run another program: nothing of its memory is left\n"...)
	}
	for _, m := range d.Mappings {
		switch m.Op {
		case vma.Map:
			b = m.VMA.AppendMaps(append(b, '+'))
		case vma.Unmap:
			b = m.VMA.AppendMaps(append(b, '-'))
		default:
			b = m.Old.AppendMaps(append(b, '<'))
			b = m.VMA.AppendMaps(append(b, '>'))
		}
	}
	if len(d.Mappings) == 0 {
		b = append(b, "mappings: no difference\n"...)
	}
	for _, p := range d.Pages {
		b = fmt.Appendf(b, "pages %v %s: %d", p.Range, p.What, p.Range.Len()>>addr.PageShift)
		if p.Name != "" {
			b = append(append(b, " in "...), Escape(p.Name)...)
		}
		b = append(b, '\n')
	}
	if len(d.Pages) == 0 && !d.Replaced {
		b = append(b, "pages: no captured page differs\n"...)
	}
	_, err := w.Write(b)
	return err
}

// AppendJSON appends the difference as one JSON object. bytes, if it is not nil, are the
// bytes that differ.
func (d *Difference) AppendJSON(b []byte, bytes []ByteRun) []byte {
	b = strconv.AppendUint(append(b, `{"from":`...), uint64(d.From), 10)
	b = strconv.AppendUint(key(b, "to"), uint64(d.To), 10)
	b = strconv.AppendUint(key(b, "from_time"), d.FromTime, 10)
	b = strconv.AppendUint(key(b, "to_time"), d.ToTime, 10)
	b = strconv.AppendUint(key(b, "pid"), uint64(d.PID), 10)
	b = strconv.AppendBool(key(b, "replaced"), d.Replaced)
	b = append(key(b, "changes"), '[')
	var f fieldList
	for i, m := range d.Mappings {
		if i > 0 {
			b = append(b, ',')
		}
		f = f[:0]
		changeFields(&f, Change{Delta: m}, 0)
		b = AppendJSON(b, f)
	}
	b = append(append(b, ']'), `,"pages":[`...)
	for i, p := range d.Pages {
		if i > 0 {
			b = append(b, ',')
		}
		b = hexStr(append(b, `{"start":`...), uint64(p.Range.Start))
		b = hexStr(key(b, "end"), uint64(p.Range.End))
		b = str(key(b, "what"), p.What.String())
		b = append(str(key(b, "path"), p.Name), '}')
	}
	b = append(b, ']')
	if bytes != nil {
		b = append(key(b, "bytes"), '[')
		for i, r := range bytes {
			if i > 0 {
				b = append(b, ',')
			}
			b = hexStr(append(b, `{"addr":`...), uint64(r.Addr))
			b = fmt.Appendf(b, `,"old":"%x","new":"%x"}`, r.Old, r.New)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}
