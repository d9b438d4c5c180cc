//go:build linux

// This file has the words that program and recorder share.

package inproc

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wake wakes the thread that waits until a word is another (futex(2)).
func wake(word *uint32) {
	const futexWake = 1
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexWake, 1, 0, 0, 0)
}

func word64(b []byte, at int) *uint64 { return (*uint64)(unsafe.Pointer(&b[at : at+8][0])) }
func word32(b []byte, at int) *uint32 { return (*uint32)(unsafe.Pointer(&b[at : at+4][0])) }

func (s *Slot) load(at int) uint64       { return atomic.LoadUint64(word64(s.shared, at)) }
func (s *Slot) store(at int, v uint64)   { atomic.StoreUint64(word64(s.shared, at), v) }
func (s *Slot) load32(at int) uint32     { return atomic.LoadUint32(word32(s.shared, at)) }
func (s *Slot) store32(at int, v uint32) { atomic.StoreUint32(word32(s.shared, at), v) }
