//go:build linux

package seccomp_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format/arch"
	"memtrace/record/tracee/seccomp"
	"memtrace/record/tracee/traceetest"
)

// stop is what our filter answers to a call that is recorded.
var stop = unix.SECCOMP_RET_TRACE | seccomp.Tag

// The filter must answer every number of both ABIs as the set does.
func TestFilter(t *testing.T) {
	const maxNr = 1024 // beyond it nothing passes
	for _, words := range []string{"", "memory", "write", "all", "exit,exit_group", "%file,!open", "memory,write,read"} {
		set, err := arch.ParseSet(words)
		if words == "" {
			set, err = arch.Set{}, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		prog := seccomp.Stopping(&set)
		if len(prog) > 4096 {
			t.Errorf("%q: %d instructions, the kernel takes 4096", words, len(prog))
		}
		for id, audit := range map[arch.ID]uint32{arch.X86_64: unix.AUDIT_ARCH_X86_64, arch.I386: unix.AUDIT_ARCH_I386} {
			for nr := range uint32(2 * maxNr) {
				want := uint32(unix.SECCOMP_RET_ALLOW)
				if nr >= maxNr || set.Has(id, nr) {
					want = stop
				}
				if got := traceetest.Interpret(prog, audit, nr, [6]uint64{}); got != want {
					t.Fatalf("%q: %v call %d: %#x, want %#x", words, id, nr, got, want)
				}
			}
			ioctl, _ := id.Number("ioctl")
			for request, want := range map[uint64]uint32{
				0xc018aa3f: stop, 0xffff_ffff_c018_aa3f: stop, // UFFDIO_API, of an int too
				0x5401: unix.SECCOMP_RET_ALLOW, 0xaa << 16: unix.SECCOMP_RET_ALLOW,
			} {
				if set.Has(id, ioctl) {
					want = stop
				}
				if got := traceetest.Interpret(prog, audit, ioctl, [6]uint64{3, request}); got != want {
					t.Errorf("%q: %v ioctl %#x: %#x, want %#x", words, id, request, got, want)
				}
			}
			for _, nr := range []uint32{1 << 30, 1<<30 | 9, 1<<32 - 1} { // x32
				if got := traceetest.Interpret(prog, audit, nr, [6]uint64{}); got != stop {
					t.Errorf("%q: %v call %#x passes unseen", words, id, nr)
				}
			}
		}
		if got := traceetest.Interpret(prog, 0xc00000b7, 222, [6]uint64{}); got != stop {
			t.Errorf("%q: a call of an unknown ABI passes unseen", words)
		}
	}
}
