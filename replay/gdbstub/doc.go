// Package gdbstub serves a log to gdb over its remote serial protocol: a program as it was
// at a step, that can be gone through forwards and backwards.
//
// Between two events nothing of the CPU is in a log. So a stop is an event, and what is not
// known at it is unavailable, never old:
//
//   - A thread whose instruction pointer is not known at a step is not there at it.
//   - Of registers those are given that are known exactly at the step.
//   - Of a stack the bytes are given that are as old as the thread's last return from a
//     call at most. Other memory may be older; "monitor asof" says how old.
//   - Running backwards to a watchpoint ends at the last step at which the old value was
//     seen, running forwards at the first with the new one.
//   - Breakpoints are taken and never written. They are hit where a recorded call was made.
//
// With all processes shown, each is an inferior, and all of them are at one step. One that is
// not there at it has one thread without registers, and no memory.
package gdbstub
