package redact

import (
	"fmt"
	"slices"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// A shifter moves addresses by one distance. Those below 4 GiB stay: a program that is
// linked to a fixed address, and programs of i386, would tell the distance.
type shifter struct {
	by     uint64 // 0: nothing is moved
	mapped *addr.Set
	anon   []bool // of each module from 1 on: its offsets are addresses
}

// Between these an address is moved.
const (
	shiftFrom = 1 << 32
	shiftTo   = 1 << 47
)

// withAddresses are the classes whose bytes have addresses in them.
var withAddresses = []Class{Data, Pages, StacksMem, Registers, Siginfo, Auxv, Names, Messages}

// Check says whether the rules go together.
func (p *Policy) Check() error {
	if !p.ShiftAddresses {
		return nil
	}
	data, _ := p.keepsData()
	for _, c := range withAddresses {
		if p.mode[c] == Keep || c == Data && data {
			return fmt.Errorf("shift addresses: %v is kept, which has addresses in it", c)
		}
	}
	return nil
}

func newShifter(p *Policy, key []byte) shifter {
	s := shifter{mapped: new(addr.Set)}
	if p.ShiftAddresses {
		s.by = (1<<20 + mac(key, "addresses", nil)%(1<<33)) << addr.PageShift
	}
	return s
}

// shiftedTime is a start of a recording, up to five years from where it was.
func shiftedTime(t time.Time, key []byte) time.Time {
	const years = 10 * 365 * 24 * time.Hour
	return t.Add(time.Duration(mac(key, "time", nil)%uint64(years)) - years/2)
}

func (s *shifter) addr(a addr.Addr) addr.Addr { return addr.Addr(s.word(uint64(a))) }

func (s *shifter) word(v uint64) uint64 {
	if v >= shiftFrom && v <= shiftTo {
		return v + s.by
	}
	return v
}

func (s *shifter) span(r addr.Range) addr.Range {
	return addr.Range{Start: s.addr(r.Start), End: s.addr(r.End)}
}

// number moves a number of a call or a register if it is the address of something that
// was ever mapped, or the end of that.
func (s *shifter) number(v uint64) uint64 {
	if a := addr.Addr(v); s.by == 0 || v < shiftFrom || v > shiftTo || !s.mapped.Overlaps(addr.Range{Start: a - 1, End: a + 1}) {
		return v
	}
	return v + s.by
}

// mapping is a mapping that is set.
func (s *shifter) mapping(v vma.VMA) (vma.VMA, error) {
	if s.by == 0 {
		return v, nil
	}
	if v.Start < shiftFrom && v.End > shiftFrom {
		return v, fmt.Errorf("shift addresses: a mapping lies on both sides of 4 GiB")
	}
	s.mapped.Add(v.Range)
	v.Range = s.span(v.Range)
	return v, nil
}

// call moves the addresses of a call. mmap is asked for an address as well.
func (s *shifter) call(c *format.Syscall) {
	if s.by == 0 {
		return
	}
	for i, v := range c.Args {
		c.Args[i] = s.number(v)
	}
	if row, ok := c.Arch.Syscall(c.Nr); ok && (row.Name == "mmap" || row.Name == "mremap") {
		c.Args[0] = s.word(c.Args[0])
	}
	c.Ret = int64(s.number(uint64(c.Ret)))
	c.IP, c.SP = s.word(c.IP), s.word(c.SP)
	for i := range c.Bufs {
		c.Bufs[i].Addr = s.addr(c.Bufs[i].Addr)
	}
}

// module notes which modules have addresses as offsets.
func (s *shifter) module(m *format.Module) {
	s.anon = append(s.anon, m.Class == format.ModuleAnon)
	if m.Class == format.ModuleAnon {
		m.TextAddr = s.word(m.TextAddr)
	}
}

func (s *shifter) frames(frames []format.RawFrame) []format.RawFrame {
	if s.by == 0 {
		return frames
	}
	frames = slices.Clone(frames)
	for i := range frames {
		f := &frames[i]
		if f.Module == 0 || int(f.Module) <= len(s.anon) && s.anon[f.Module-1] {
			f.Offset = s.word(f.Offset)
		}
	}
	return frames
}

func (s *shifter) phase(p *format.Phase) *format.Phase {
	if s.by == 0 {
		return p
	}
	c := *p
	c.HeldPages, c.Written = slices.Clone(p.HeldPages), slices.Clone(p.Written)
	for i := range c.HeldPages {
		c.HeldPages[i] = s.addr(c.HeldPages[i])
	}
	for i := range c.Written {
		c.Written[i] = s.span(c.Written[i])
	}
	return &c
}
