//go:build linux

// This file hands pages to the log at once.

package snapshot

import (
	"memtrace/format"
	"memtrace/format/addr"
)

// Sink takes what a reading finds. What it is told later is true where it differs from
// what it was told before.
type Sink interface {
	// Room is where up to n bytes can be read to, at least one page if n is. It is for
	// the next call of Pages.
	Room(n uint64) []byte
	// Pages takes pages; their MM is the sink's own. Data is in Room or valid only
	// during the call.
	Pages(p format.Pages)
	// Forget takes back what is known of contents in a range, if it is data or zeros:
	// it may not be so any more.
	Forget(at addr.Range)
}

// Chunk is how many bytes are read at a time.
const Chunk = 1 << 20

// Direct is a Sink that tells the log of one address space at once.
type Direct struct {
	mm     uint32
	known  func() *format.MM
	change func(*format.Pages)
	room   []byte
	stale  []format.Pages
}

// NewDirect makes a sink for address space mm. known is its state as of the last change;
// nil is not in the state. change takes changes, which are valid during the call.
func NewDirect(mm uint32, known func() *format.MM, change func(*format.Pages)) *Direct {
	return &Direct{mm: mm, known: known, change: change}
}

// Room is the same room each time.
func (d *Direct) Room(n uint64) []byte {
	if d.room == nil {
		d.room = make([]byte, Chunk)
	}
	return d.room[:min(n, Chunk)]
}

// Pages makes a change of p.
func (d *Direct) Pages(p format.Pages) {
	p.MM = d.mm
	d.change(&p)
}

// Forget looks at the state for what there is to forget.
func (d *Direct) Forget(at addr.Range) {
	m := d.known()
	if m == nil || at.Empty() {
		return
	}
	d.stale = d.stale[:0]
	for p, err := range m.Pages(at) {
		if err == nil && (p.What == format.PageData || p.What == format.PageZero) {
			d.stale = append(d.stale, format.Pages{Addr: p.Addr, N: p.N, What: format.PageAbsent})
		}
	}
	for _, p := range d.stale {
		d.Pages(p)
	}
}
