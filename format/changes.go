package format

import (
	"slices"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// Change is a step of the state: the writer puts it before the event that it
// belongs to, the reader hands it out with that event.
type Change interface {
	code() uint8 // its type in a STATE chunk
	fields(x *fields)
}

// ThreadSet makes a thread known or changes what is known of it (an exec by
// another thread than the leader changes its tid).
type ThreadSet struct{ Thread Thread }

func (*ThreadSet) code() uint8        { return recThread }
func (c *ThreadSet) fields(x *fields) { c.Thread.fields(x) }

// Thread identifies a thread for the whole log: numbers of the kernel are
// reused, No is not.
type Thread struct {
	No     uint32 // from 1
	TID    uint32 // the kernel's, in the recorder's PID namespace
	TGID   uint32
	NSTID  uint32 // in the thread's own PID namespace; equal to TID where that is the recorder's
	Proc   uint32 // No of the first thread of its process: the log's process number
	MM     uint32 // its address space
	Parent uint32 // Proc of the parent process, 0 if it is not traced
	Arch   arch.ID
}

func (t *Thread) fields(x *fields) {
	x.u32("number", &t.No)
	x.u32("tid", &t.TID)
	x.u32("tgid", &t.TGID)
	x.u32("tid in its namespace", &t.NSTID)
	x.u32("number of its process", &t.Proc)
	x.u32("address space", &t.MM)
	x.u32("parent process", &t.Parent)
	id := uint64(t.Arch)
	x.u("arch", &id)
	t.Arch = arch.ID(id)
}

// ThreadEnd takes a thread out of the state.
type ThreadEnd struct{ No uint32 }

func (*ThreadEnd) code() uint8        { return recThreadEnd }
func (c *ThreadEnd) fields(x *fields) { x.u32("number", &c.No) }

// MMNew makes an address space known.
type MMNew struct {
	MM   uint32 // from 1, never reused
	From uint32 // the address space it is a copy of, mappings and pages (fork); 0: empty
}

func (*MMNew) code() uint8 { return recMMNew }

func (c *MMNew) fields(x *fields) {
	x.u32("number", &c.MM)
	x.u32("number of the one that it is a copy of", &c.From)
}

// MMDrop takes an address space out of the state.
type MMDrop struct{ MM uint32 }

func (*MMDrop) code() uint8        { return recMMDrop }
func (c *MMDrop) fields(x *fields) { x.u32("number", &c.MM) }

// VMASet puts a mapping into an address space as vma.Set.Insert does.
type VMASet struct {
	MM  uint32
	VMA vma.VMA
}

func (*VMASet) code() uint8 { return recVMASet }

func (c *VMASet) fields(x *fields) {
	x.u32("address space", &c.MM)
	x.mapping(&c.VMA)
}

// VMADel takes a range out of an address space as vma.Set.Remove does: the
// pages in it are gone too.
type VMADel struct {
	MM    uint32
	Range addr.Range
}

func (*VMADel) code() uint8 { return recVMADel }

func (c *VMADel) fields(x *fields) {
	x.u32("address space", &c.MM)
	x.u("start", (*uint64)(&c.Range.Start))
	n := uint64(c.Range.End - c.Range.Start)
	x.u("length", &n)
	c.Range.End = c.Range.Start + addr.Addr(n)
}

// VMAMove moves the pages of [From, From+Len) to To, as mremap does. It does
// not move mappings: VMADel and VMASet beside it do.
type VMAMove struct {
	MM       uint32
	From, To addr.Addr
	Len      uint64
}

func (*VMAMove) code() uint8 { return recVMAMove }

func (c *VMAMove) fields(x *fields) {
	x.u32("address space", &c.MM)
	x.u("from", (*uint64)(&c.From))
	x.u("to", (*uint64)(&c.To))
	x.u("length", &c.Len)
}

// Pages says what N pages from Addr on hold. For PageData the writer is given
// Data (N pages of bytes, which it does not keep) and chooses how to store it;
// the reader hands out References for Trace.Page instead. A writer takes Refs without
// Data if all are Redacted.
type Pages struct {
	MM   uint32
	Addr addr.Addr
	N    uint64
	What PageKind
	Data []byte    // PageData on the way in
	Refs []PageRef // PageData on the way out, one a page
}

func (*Pages) code() uint8 { return recPages }

// fields has what a copy needs: runs of pages are written and read one by one
// (stateEnc.pages, stateDec.nextRun).
func (c *Pages) fields(x *fields) {
	switch x.mode {
	case owning:
		c.Refs = slices.Clone(c.Refs)
	case describing:
		x.u32("address space", &c.MM)
		x.describe("`u` n")
		x.describe("n runs")
		x.seen("runs", nil)
	}
}

// Confirm says that what is known of an address space's pages is true of this
// step: what was written since the last snapshot has been found and is in the
// changes before it.
type Confirm struct{ MM uint32 }

func (*Confirm) code() uint8        { return recConfirm }
func (c *Confirm) fields(x *fields) { x.u32("address space", &c.MM) }

// RegsSet is the registers of a thread at the event, in the order of
// arch.Registers: of threads that are not the event's own (Event.Regs), as when
// the memory that they share is read. It is no part of the State: Reader.Regs
// finds it.
type RegsSet struct {
	Thread uint32
	Regs   []uint64
}

func (*RegsSet) code() uint8 { return recRegs }

func (c *RegsSet) fields(x *fields) {
	x.u32("thread number", &c.Thread)
	x.registers(&c.Regs)
}

// XStateSet is a thread's floating-point and vector registers at the event: the
// area that XSAVE writes, as PTRACE_GETREGSET gives it (NT_X86_XSTATE). Like a
// RegsSet it is no part of the State: Reader.Registers finds it. No bytes at all
// say that it is what it was before.
type XStateSet struct {
	Thread uint32
	Data   []byte
}

func (*XStateSet) code() uint8 { return recXState }

func (c *XStateSet) fields(x *fields) {
	x.u32("thread number", &c.Thread)
	x.xstate(&c.Data)
}

// PageKind is what is known of a page.
type PageKind uint8

// The kinds of page. A page that was never mentioned is unknown: not zero.
const (
	PageData       PageKind = iota + 1
	PageZero                // reads as zero: never touched anonymous memory, or zero when read
	PageFile                // equal to the mapped file
	PageAbsent              // forgotten: what was known of it is no longer true (MADV_DONTNEED, munmap)
	PageUnreadable          // mapped, but could not be read
)

// PageRef is where the bytes of a page are in the log: id<<1 | 1 for a patch,
// id<<1 for a raw page (docs/format.md). A Redacted one stands for contents that were
// taken out of the log.
type PageRef uint64

// redactedRef is the bit of references to contents that were taken out.
const redactedRef PageRef = 1 << 59

// RedactedRef refers to contents that the log does not have. Of equal ids they were the
// same. The lower 58 bits of id count.
func RedactedRef(id uint64) PageRef { return redactedRef | PageRef(id&(1<<58-1))<<1&^(1<<58) }

// Redacted says that the contents were taken out of the log: they are not known.
func (r PageRef) Redacted() bool { return r&redactedRef != 0 }
