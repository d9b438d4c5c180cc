package unwind

import (
	"encoding/binary"

	"memtrace/format/unwind/pcln"
)

// goPlan finds out how to go on from Go code. at is where to look, v where the frame goes on.
func (u *Unwinder) goPlan(c *codeRange, at uint64) plan {
	img := c.img
	if img.i386 {
		return plan{}
	}
	if !img.goTried {
		img.goTried = true
		u.openGo(c)
	}
	t := img.goTab
	if t == nil {
		return plan{}
	}
	t.SetSource(u.goSource(c, img.goAt))
	f, ok := t.Func(at)
	if !ok {
		return plan{}
	}
	name := t.Name(f)
	switch name {
	case "runtime.systemstack", "runtime.asmcgocall", "runtime.asmcgocall.abi0", "runtime.systemstack.abi0", "runtime.morestack", "runtime.morestack_noctxt":
		return plan{kind: planGoFP}
	case "runtime.mcall":
		return plan{kind: planGoCall}
	}
	if f.Top {
		return plan{kind: planTop}
	}
	delta, ok := t.Delta(f, at)
	if !ok || delta > 1<<30 {
		return plan{}
	}
	if name == "runtime.cgocallback" || name == "runtime.cgocallback.abi0" {
		return plan{kind: planGoBack, delta: int32(delta)}
	}
	return plan{kind: planGo, delta: int32(delta)}
}

// goSource reads Go's tables, which are at an address of the image.
func (u *Unwinder) goSource(c *codeRange, tables uint64) pcln.Source {
	bias := c.bias
	return func(b []byte, off uint64) int { return u.read(b, bias+tables+off) }
}

// Limits of the search for Go's tables and for what tells where its code is.
const (
	maxScan   = 64 << 20
	scanPiece = 64 << 10
)

// openGo looks for the tables of the Go linker.
func (u *Unwinder) openGo(c *codeRange) {
	img := c.img
	at, ok := u.sectionAt(c, ".gopclntab", ".data.rel.ro.gopclntab")
	if !ok && img.mod.GoBuildID != "" {
		at, ok = u.scan(c, 0, func(b []byte) int { return pcln.Find(b, 0) })
	}
	if !ok {
		return
	}
	src := u.goSource(c, at)
	var b [pcln.HeaderSize]byte
	src(b[:], 0)
	h, err := pcln.ParseHeader(b[:])
	if err != nil {
		return
	}
	text := h.Text - c.bias
	if h.Text == 0 {
		if text, ok = u.goText(c, at); !ok {
			return
		}
		text -= pcln.First(h, src)
	}
	if text < img.exec[0] || text >= img.exec[1] {
		return
	}
	t, err := pcln.Open(h, src, text)
	if err != nil {
		return
	}
	img.goTab, img.goAt = t, at
	u.cache.size += t.Size()
}

// goText is the address of the first function: moduledata has it, which begins with a
// pointer to the tables.
func (u *Unwinder) goText(c *codeRange, tables uint64) (text uint64, ok bool) {
	const minpc, maxpc, moduleWords = 20, 21, 24
	want := tables + c.bias
	word := func(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	_, ok = u.scan(c, 2, func(b []byte) int {
		for i := 0; i+8*moduleWords <= len(b); i += 8 {
			if word(b[i:], 0) != want {
				continue
			}
			lo, hi := word(b[i:], minpc)-c.bias, word(b[i:], maxpc)-c.bias
			if lo >= c.img.exec[0] && lo < hi && hi <= c.img.exec[1] {
				text = lo
				return i
			}
		}
		return -1
	})
	return text, ok
}

// scan looks through the segments with these flags (2: those that can be written to; else
// those without code) piece by piece. find says where in a piece something is, or -1. Pieces
// overlap, and begin at multiples of 8.
func (u *Unwinder) scan(c *codeRange, flags uint64, find func([]byte) int) (at uint64, ok bool) {
	const overlap = 1 << 10
	left := maxScan
	buf := make([]byte, scanPiece+overlap)
	for _, s := range c.img.load {
		if s.flags&1 != 0 || s.flags&flags != flags {
			continue
		}
		for off := uint64(0); off < s.filesz && left > 0; off += scanPiece {
			b := buf[:min(uint64(len(buf)), s.filesz-off)]
			b = b[:u.read(b, c.bias+s.vaddr+off)]
			if i := find(b); i >= 0 {
				return s.vaddr + off + uint64(i), true
			}
			left -= scanPiece
		}
	}
	return 0, false
}

// goFrame steps to the caller of Go code.
func (u *Unwinder) goFrame(p plan) stepped {
	r := &u.regs
	switch p.kind {
	case planGoFP, planGoCall:
		return u.goSwitch(p.kind == planGoCall)
	}
	sp := r.SP() + uint64(p.delta)
	ra, ok := u.stackWord(sp)
	if !ok {
		return stepped{end: Unreadable}
	}
	if ra != 0 && u.code(ra) == nil {
		return stepped{end: NoRule}
	}
	r.Known &= r.saved()
	if p.delta > 0 {
		// A function with a frame saves the frame pointer at its top.
		if fp, ok := u.stackWord(sp - 8); ok {
			r.set(x86RBP, fp)
		}
	}
	r.set(x86RSP, sp+8)
	r.set(x86RA, ra)
	return stepped{how: Go, cfa: sp + 8, inexact: p.kind == planGoBack, free: p.kind == planGoBack}
}

// goSwitch steps from a function of the runtime, which has changed stacks, to its caller on
// the other one: the frame pointer leads there. Since Go 1.24 one that is called to schedule
// something else has none.
func (u *Unwinder) goSwitch(schedules bool) stepped {
	r := &u.regs
	fp := r.Val[x86RBP]
	if r.Known>>x86RBP&1 == 0 || fp%8 != 0 {
		return stepped{end: NoRule}
	}
	switch {
	case fp == 0 && schedules:
		return stepped{end: Complete}
	case fp == 0:
		return stepped{end: NoRule}
	}
	ra, ok := u.stackWord(fp + 8)
	if !ok {
		return stepped{end: Unreadable}
	}
	if !u.afterCall(ra) {
		return stepped{end: NoRule}
	}
	up, _ := u.stackWord(fp)
	r.Known &= r.saved()
	r.set(x86RBP, up)
	r.set(x86RSP, fp+16)
	r.set(x86RA, ra)
	return stepped{how: Go, cfa: fp + 16, free: true}
}
