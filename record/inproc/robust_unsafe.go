//go:build linux

// This file has the kernel let programs go on when the recorder dies, by whatever death.

package inproc

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Robust is what the kernel does when the tracing thread ends: it changes a word in each
// slot, before it lets the tracees go (robust_list(2); kernel/exit.c: exit_mm comes before
// exit_notify). The word is the thread's id, of which one byte is 1, and becomes 0x40000000.
// That byte is where the kernel looks whether calls from outside of the code stop a thread:
// not if it is 0. The code looks at the word too.
type Robust struct {
	head  *robustHead
	tid   uint32
	nodes []uintptr
}

// robustHead is struct robust_list_head. It lies outside of the heap.
type robustHead struct {
	next    uintptr
	offset  int64
	pending uintptr
}

// mostRobust is how many words there are at most (ROBUST_LIST_LIMIT, include/linux/futex.h,
// less some).
const mostRobust = 2000

// ErrRobust is the error of a thread that cannot have such words.
var ErrRobust = errors.New("programs would not survive the recorder")

// Suits reports whether a thread with an id can have such words.
func Suits(tid int) bool {
	_, ok := blockingByte(uint32(tid))
	return ok
}

// blockingByte is which byte of a word is 1.
func blockingByte(word uint32) (i int, ok bool) {
	for i = range 3 { // the highest is not 0 afterwards
		if word>>(8*i)&0xff == 1 {
			return i, true
		}
	}
	return 0, false
}

// NewRobust makes the list of the calling thread, which has to stay on its goroutine.
func NewRobust() (*Robust, error) {
	r := &Robust{tid: uint32(unix.Gettid())}
	if !Suits(int(r.tid)) {
		return nil, ErrRobust
	}
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRobust, err)
	}
	r.head = (*robustHead)(unsafe.Pointer(&page[0]))
	*r.head = robustHead{offset: slotOwner - slotNode}
	r.link()
	if _, _, e := unix.RawSyscall(unix.SYS_SET_ROBUST_LIST, uintptr(unsafe.Pointer(r.head)), unsafe.Sizeof(*r.head), 0); e != 0 {
		return nil, fmt.Errorf("%w: %w", ErrRobust, e)
	}
	return r, nil
}

// link makes the list of the nodes: each has the address of the next, the last that of the
// head.
func (r *Robust) link() {
	next := uintptr(unsafe.Pointer(r.head))
	for _, node := range r.nodes {
		*(*uintptr)(nodeAt(node)) = next
		next = node
	}
	r.head.next = next
}

// nodeAt is a node, which is in memory that Go does not manage.
func nodeAt(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }

func nodeOf(shared []byte) uintptr { return uintptr(unsafe.Pointer(&shared[slotNode])) }

// Full reports whether no slot can be added.
func (r *Robust) Full() bool { return len(r.nodes) >= mostRobust }

// Add has the kernel change the word of a slot whose memory is shared, before NewSlot.
func (r *Robust) Add(shared []byte) {
	*word32(shared, slotOwner) = r.tid
	r.nodes = append(r.nodes, nodeOf(shared))
	r.link()
}

// Remove takes a slot out, whose memory is unmapped next.
func (r *Robust) Remove(shared []byte) {
	if i := slices.Index(r.nodes, nodeOf(shared)); i >= 0 {
		r.nodes = slices.Delete(r.nodes, i, i+1)
		r.link()
	}
}
