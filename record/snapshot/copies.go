//go:build linux

// This file keeps what is read of a held address space until its threads go on: to read
// memory is faster than to write it to the log.

package snapshot

import (
	"memtrace/format"
	"memtrace/format/addr"
)

// Copies is a Sink in front of another one. While it keeps, what it is told waits for
// HandOver.
type Copies struct {
	to      Sink
	keeping bool
	kept    []kept
	chunks  [][]byte // Chunk bytes each
	used    int      // bytes of them
	room    []byte   // that was given last
}

// kept is what the other sink is to be told.
type kept struct {
	pages  format.Pages
	forget addr.Range // if not empty, instead
}

// What is kept at most; with more, the threads have to wait for the log.
const (
	mostChunks = 32
	mostKept   = 1 << 14
)

// NewCopies makes a sink in front of to. It keeps nothing before Keep.
func NewCopies(to Sink) *Copies { return &Copies{to: to} }

// Keep begins to keep what is told.
func (c *Copies) Keep() { c.keeping = true }

// Keeping says whether what is told is kept.
func (c *Copies) Keeping() bool { return c.keeping }

// Room is in a chunk while copies are kept.
func (c *Copies) Room(n uint64) []byte {
	if !c.keeping {
		return c.to.Room(n)
	}
	at := c.used / Chunk
	if at == mostChunks {
		c.flush()
		at = 0
	}
	if at == len(c.chunks) {
		c.chunks = append(c.chunks, make([]byte, Chunk))
	}
	b := c.chunks[at][c.used%Chunk:]
	c.room = b[:min(n, uint64(len(b)))]
	return c.room
}

// Pages keeps p, with its data where it was read to.
func (c *Copies) Pages(p format.Pages) {
	if !c.keeping {
		c.to.Pages(p)
		return
	}
	if len(p.Data) > 0 {
		if len(c.room) == 0 || &p.Data[0] != &c.room[0] {
			p.Data = append([]byte(nil), p.Data...)
		} else {
			c.used += len(p.Data)
		}
		c.room = nil
	}
	c.keep(kept{pages: p})
}

// Forget is told in order with the pages.
func (c *Copies) Forget(at addr.Range) {
	switch {
	case at.Empty():
	case c.keeping:
		c.keep(kept{forget: at})
	default:
		c.to.Forget(at)
	}
}

func (c *Copies) keep(k kept) {
	c.kept = append(c.kept, k)
	if len(c.kept) >= mostKept {
		c.flush()
	}
}

// HandOver tells the other sink what was kept, in order, and ends the keeping.
func (c *Copies) HandOver() {
	c.flush()
	c.keeping = false
}

func (c *Copies) flush() {
	for i, k := range c.kept {
		if k.forget.Empty() {
			c.to.Pages(k.pages)
		} else {
			c.to.Forget(k.forget)
		}
		c.kept[i] = kept{}
	}
	c.kept, c.used = c.kept[:0], 0
}
