//go:build linux

// This file reads and writes the words that program and recorder share.

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

// words is memory that another process uses at the same time. An offset is that of a word.
type words []byte

func (w words) load(at int) uint64       { return atomic.LoadUint64(word64(w, at)) }
func (w words) store(at int, v uint64)   { atomic.StoreUint64(word64(w, at), v) }
func (w words) load32(at int) uint32     { return atomic.LoadUint32(word32(w, at)) }
func (w words) store32(at int, v uint32) { atomic.StoreUint32(word32(w, at), v) }
