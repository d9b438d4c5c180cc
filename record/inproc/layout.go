// This file says where is what in the memory that a program and the recorder share, and in a
// record; blob.gas has the same.

package inproc

import "encoding/binary"

var le = binary.LittleEndian

// Offsets in the slot.
const (
	slotSelf   = 0x00
	slotHead   = 0x08
	slotTail   = 0x10
	slotLeave  = 0x18
	slotBegun  = 0x1c
	slotMask   = 0x24
	slotRec    = 0x28
	slotEnd    = 0x38
	slotResult = 0x40
	slotR11    = 0x48
	slotPacked = 0x58
	slotRet    = 0x60
	slotRAX    = 0x68
	slotRBX    = 0x70
	slotArgs   = 0x78
	slotWaited = 0x110
	slotWaits  = 0x114
	slotTime   = 0x118
	slotAction = 0x140 // not used by the code: an Action
	slotPath   = 0xa8
	slotOwner  = 0x100 // the tracing thread's id
	slotNode   = 0x108 // not used by the code: of the list that slotOwner is in
)

// Values of slotBegun.
const (
	begunNone = iota // the record of the last call is whole
	begunCall        // a call is about to be made, or under way
	begunBack        // it has returned
)

// Offsets in a record.
const (
	recNr     = 4
	recBegin  = 8
	recEnd    = 16
	recArgs   = 24
	recRet    = 72
	recReturn = 80
	recSP     = 88
	recHead   = 112
	recPad    = ^uint32(0) // for a number: nothing, up to the end of the ring
)
