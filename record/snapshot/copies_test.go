//go:build linux

package snapshot

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
)

// script is a Sink that writes down what it is told.
type script struct {
	room  [addr.PageSize]byte
	lines []string
}

func (s *script) Room(n uint64) []byte { return s.room[:min(n, addr.PageSize)] }
func (s *script) Pages(p format.Pages) {
	value := uint64(0)
	if len(p.Data) > 0 {
		value = binary.LittleEndian.Uint64(p.Data)
	}
	s.lines = append(s.lines, fmt.Sprintf("%x+%d kind %d %d", p.Addr.Page(), p.N, p.What, value))
}
func (s *script) Forget(at addr.Range) {
	s.lines = append(s.lines, fmt.Sprintf("%x+%d forget", at.Start.Page(), at.Len()/addr.PageSize))
}

// put reads a page with a number to a sink's room.
func put(s Sink, at int, value uint64) {
	b := s.Room(addr.PageSize)
	binary.LittleEndian.PutUint64(b, value)
	p := pagesOf(pages(at, at+1), format.PageData)
	p.Data = b[:addr.PageSize]
	s.Pages(p)
}

func TestCopies(t *testing.T) {
	out := new(script)
	c := NewCopies(out)
	tell := func() {
		put(c, 1, 7)
		c.Forget(pages(2, 4))
		c.Forget(addr.Range{})
		c.Pages(pagesOf(pages(4, 6), format.PageZero))
		put(c, 5, 8)
		own := make([]byte, addr.PageSize) // not in its room
		own[0] = 9
		c.Pages(format.Pages{Addr: page(6), N: 1, What: format.PageData, Data: own})
		own[0] = 10
		put(c, 7, 11)
	}
	want := []string{"1+1 kind 1 7", "2+2 forget", "4+2 kind 2 0", "5+1 kind 1 8", "6+1 kind 1 9", "7+1 kind 1 11"}
	if tell(); !slices.Equal(out.lines, want) || c.Keeping() {
		t.Errorf("at once: %q", out.lines)
	}
	for range 2 {
		out.lines = nil
		c.Keep()
		if tell(); len(out.lines) > 0 || !c.Keeping() {
			t.Errorf("told before the end: %q", out.lines)
		}
		if c.HandOver(); !slices.Equal(out.lines, want) || c.Keeping() {
			t.Errorf("at the end: %q", out.lines)
		}
	}
	if c.HandOver(); len(out.lines) != len(want) {
		t.Errorf("told twice: %q", out.lines)
	}
}

// TestCopiesBounded: what is kept is bounded, and nothing of it is lost.
func TestCopiesBounded(t *testing.T) {
	out := new(script)
	c := NewCopies(out)
	c.Keep()
	const n = mostChunks*Chunk/addr.PageSize + 100
	for i := range n {
		put(c, i, uint64(i))
	}
	if len(c.chunks) != mostChunks || len(out.lines) == 0 {
		t.Errorf("%d chunks, %d lines told", len(c.chunks), len(out.lines))
	}
	for i := range mostKept {
		c.Forget(pages(i, i+1))
	}
	if len(c.kept) >= mostKept {
		t.Errorf("%d kept", len(c.kept))
	}
	c.HandOver()
	if len(out.lines) != n+mostKept {
		t.Errorf("%d of %d lines told", len(out.lines), n+mostKept)
	}
	for i := range n {
		if want := fmt.Sprintf("%x+1 kind 1 %d", i, i); out.lines[i] != want {
			t.Fatalf("%q, want %q", out.lines[i], want)
		}
	}
	c.Keep()
	c.Room(addr.PageSize)
	if b := c.Room(2 * Chunk); len(b) != Chunk {
		t.Errorf("room for %d", len(b))
	}
}

// TestDirect: what the log does not know need not be forgotten.
func TestDirect(t *testing.T) {
	state := format.NewState()
	apply := func(c format.Change) {
		if err := state.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	apply(&format.MMNew{MM: 3})
	v := mapping(0, 20, 0)
	apply(&format.VMASet{MM: 3, VMA: v})
	var told []string
	d := NewDirect(3, func() *format.MM { return state.MMs[3] }, func(p *format.Pages) {
		told = append(told, fmt.Sprintf("%x+%d kind %d", p.Addr.Page(), p.N, p.What))
		apply(p)
	})
	d.Pages(pagesOf(pages(2, 4), format.PageZero))
	d.Pages(pagesOf(pages(6, 8), format.PageFile))
	d.Pages(format.Pages{Addr: page(8), N: 1, What: format.PageData, Refs: []format.PageRef{2}})
	told = nil
	d.Forget(pages(3, 20))
	if want := []string{"3+1 kind 4", "8+1 kind 4"}; !slices.Equal(told, want) {
		t.Errorf("%q, want %q", told, want)
	}
	told = nil
	if d.Forget(addr.Range{}); len(told) > 0 {
		t.Errorf("nothing: %q", told)
	}
	if len(d.Room(1)) != 1 || len(d.Room(2*Chunk)) != Chunk {
		t.Error("room")
	}
	none := NewDirect(4, func() *format.MM { return state.MMs[4] }, func(*format.Pages) { t.Error("told of an address space that is not there") })
	none.Forget(pages(0, 9))
}
