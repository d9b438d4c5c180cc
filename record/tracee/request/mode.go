//go:build linux

// This file says how a tracer lets its tracee go on.

package request

// Mode is how a tracer lets its tracee go on.
type Mode uint8

// The ways.
const (
	ModeCont       Mode = iota
	ModeSyscall         // to the next entry or exit of a call
	ModeStep            // by one instruction
	ModeSysemu          // to the next entry of a call, which is not made
	ModeSysemuStep      // by one instruction; a call is not made
)

// Modes are the requests that let a tracee go on. A step to the next branch is one by an
// instruction, as it is on processors that cannot do better.
var Modes = map[uint64]Mode{
	Cont: ModeCont, Syscall: ModeSyscall, SingleStep: ModeStep, SingleBlock: ModeStep, Sysemu: ModeSysemu, SysemuStep: ModeSysemuStep,
}
