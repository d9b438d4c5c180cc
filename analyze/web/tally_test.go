package web

import (
	"testing"

	"memtrace/format"
	"memtrace/format/arch"
)

// Calls are in the lanes by what they are for, futex calls by whether they wait.
func TestClassOf(t *testing.T) {
	for _, c := range []struct {
		name string
		op   uint64
		want class
	}{
		{"mmap", 0, memoryCall}, {"openat", 0, fileCall}, {"connect", 0, networkCall}, {"clone", 0, processCall}, {"nanosleep", 0, waitingCall},
		{"futex", 0 /* WAIT */, waitingCall}, {"futex", 0x80 | 9 /* WAIT_BITSET */, waitingCall}, {"futex", 0x81 /* WAKE */, otherCall},
		{"futex", 4 /* CMP_REQUEUE */, otherCall},
	} {
		nr, ok := arch.X86_64.Number(c.name)
		if !ok {
			t.Fatal(c.name)
		}
		s := &format.Syscall{Arch: arch.X86_64, Nr: nr, Args: [6]uint64{0, c.op}}
		if got := classOf(s); got != c.want {
			t.Errorf("%s, %#x: %s, not %s", c.name, c.op, classNames[got], classNames[c.want])
		}
	}
}
