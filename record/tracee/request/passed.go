//go:build linux

// This file says which requests the kernel answers about the tracee itself, and what
// data they move.

package request

import "memtrace/record/ptrace"

// Flow is where the data goes of a request that the kernel answers about the tracee itself.
type Flow uint8

const (
	ToTracer  Flow = iota + 1 // size bytes are filled
	ToTracee                  // size bytes are taken
	ToNumber                  // the kernel's result is a number, which is written to data
	ByNumber                  // data is a number
	ToTracerN                 // addr bytes are filled, and the result says how many there are
	ToTraceeN                 // addr bytes are taken
)

// Passed are the requests that the kernel answers about the tracee itself.
var Passed = map[uint64]struct {
	Flow Flow
	Size int
}{
	PeekText: {ToNumber, 8}, PeekData: {ToNumber, 8}, PeekUser: {ToNumber, 8}, PokeUser: {ByNumber, 0},
	GetRegs: {ToTracer, len(ptrace.Regs{}) * 8}, SetRegs: {ToTracee, len(ptrace.Regs{}) * 8},
	GetFPRegs: {ToTracer, FPRegsSize}, SetFPRegs: {ToTracee, FPRegsSize},
	getSigMask: {ToTracerN, 8}, setSigMask: {ToTraceeN, 8}, ArchPrctl: {ByNumber, 0},
	getRSeq: {ToTracerN, 24}, setDispatch: {ToTraceeN, 32}, getDispatch: {ToTracerN, 32},
	getThreadArea: {ToTracer, 16}, setThreadArea: {ToTracee, 16}, setCallInfo: {ToTraceeN, 0},
}
