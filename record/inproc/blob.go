// This file has the code that runs in the program, and where is what in it.

package inproc

import (
	_ "embed"
	"encoding/binary"

	"memtrace/format/addr"
)

//go:embed blob.bin
var blob []byte

// Sizes of what is mapped in the program: the code, a table of what to keep of each call,
// both of them once and read-only; then a slot and a ring for each thread that records,
// shared with the recorder.
const (
	codeSize = 0x1000
	rowCount = 512
	rowSize  = 48
	slotSize = 0x1000
	ringSize = 0x80000

	// CodeLen is the length of the part that is mapped read-only, SlotLen that of a slot
	// with its ring.
	CodeLen = codeSize + rowCount*rowSize
	SlotLen = slotSize + ringSize

	// MaxSlots is how many slots there are room for.
	MaxSlots = 128
	// WholeLen is the length of all.
	WholeLen = CodeLen + MaxSlots*SlotLen
)

// labels are offsets in the code, from the list at its end.
var labels = func() (l struct {
	Mine, Saved, Call, After, Kept, Whole, Told, Chunk, Limit uint16
	Trap, Raw, Park, End                                      uint16
	E1, E4, E5                                                uint16
	R2, R3, R4, R5, R6, R8                                    uint16
	Handler, Restorer                                         uint16
}) {
	const list = 64
	if _, err := binary.Decode(blob[codeSize-list:], binary.LittleEndian, &l); err != nil {
		panic(err)
	}
	return l
}()

// Code is the code as it is mapped at base in a program.
type Code struct{ Base addr.Addr }

func (c Code) at(label uint16) addr.Addr { return c.Base + addr.Addr(label) }

// Theirs is where the address of the program's handler of SIGSYS is, 8 bytes; 0 if it has none.
// It is in the row of a number that no call has.
func (c Code) Theirs() addr.Addr {
	const row, at = rowCount - 2, 40
	return c.Base + codeSize + row*rowSize + at
}

// Range is the code, the table and the slots, mapped or not.
func (c Code) Range() addr.Range { return addr.Reach(c.Base, WholeLen) }

// Slot is where slot i begins.
func (c Code) Slot(i int) addr.Addr { return c.Base + CodeLen + addr.Addr(i)*SlotLen }

// Allowed is the part of the code whose system calls the kernel lets through.
func (c Code) Allowed() addr.Range { return addr.Range{Start: c.Base, End: c.at(labels.Limit)} }
