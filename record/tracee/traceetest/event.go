//go:build linux

// This file has what a Kernel notes of what happens.

package traceetest

import "memtrace/format/arch"

// What is a kind of Event.
type What uint8

// The kinds.
const (
	Returned  What = iota // a call has returned to the program with Ret
	Delivered             // a signal has been delivered
	Born                  // a thread was made by Parent
	Executed              // a new program; Parent is the caller's tid before
	Died                  // it has ended with Status
	Detached              // it is no longer traced
	Injected              // a call was made in its name
)

// Event is one thing that has happened, as the program sees it.
type Event struct {
	TID    int
	First  int // the thread's tid before its first exec
	What   What
	Name   string // of the call
	ID     arch.ID
	Nr     uint32
	Args   [6]uint64
	Ret    int64
	Sig    int
	Parent int
	Traced bool
	Status uint32
}
