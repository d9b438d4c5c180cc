//go:build linux

package record

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/record/tracee"
)

// TestNextReference: the bits are reset at 8, 16, 32 seconds of a process's life, or at an
// even pace.
func TestNextReference(t *testing.T) {
	const s = uint64(time.Second)
	for _, tt := range []struct {
		every            time.Duration
		began, now, want uint64
	}{
		{0, 5, 5, 13}, {0, 5, 12, 13}, {0, 5, 13, 21}, {0, 0, 15, 16}, {0, 0, 16, 32}, {0, 0, 31, 32}, {0, 0, 33, 64},
		{5 * time.Second, 1, 1, 6}, {5 * time.Second, 1, 6, 11}, {5 * time.Second, 1, 14, 16},
	} {
		x := referencing{every: tt.every}
		if got := x.next(tt.began*s, tt.now*s); got != tt.want*s {
			t.Errorf("%+v: %d s", tt, got/s)
		}
	}
}

// TestReference: what the kernel says of this process: the part of a mapping that is used after
// the bits were reset is referenced, and the rest is not.
func TestReference(t *testing.T) {
	const size = 32 * largeMapping
	all, err := unix.Mmap(-1, 0, size+2*addr.PageSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(all)
	b := all[addr.PageSize:][:size] // a mapping of its own
	if err := unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		t.Fatal(err)
	}
	if err := unix.Madvise(b, unix.MADV_NOHUGEPAGE); err != nil {
		t.Fatal(err)
	}
	use := func(b []byte) {
		for i := 0; i < len(b); i += addr.PageSize {
			b[i]++
		}
	}
	use(b)
	sp := &tracee.Space{}
	p := &tracee.Process{PID: os.Getpid(), Threads: map[int]*tracee.Thread{}}
	th := &tracee.Thread{TID: os.Getpid(), Proc: p, Space: sp}
	p.Threads[th.TID] = th
	s := sampler{procs: map[*tracee.Process]*procTexts{}, refs: referencing{on: true, warn: func(text string, args ...any) { t.Errorf(text, args...) }}}
	defer s.close()
	// referenced is what a sample of a source says of the mapping.
	referenced := func(now uint64, source string) (n uint64, ok bool) {
		s.begin()
		s.process(p, nil, now)
		for _, x := range s.record().Samples {
			if x.Source != source {
				continue
			}
			_, rest, _ := bytes.Cut(x.Data, fmt.Appendf(nil, "%s-", strings.TrimPrefix(fmt.Sprintf("%p", b), "0x")))
			return proctext.Field(rest, "Referenced").Size()
		}
		return 0, false
	}
	const began = 1
	const reset = began + uint64(firstReference)
	for _, now := range []uint64{began, reset - 1} {
		if _, ok := referenced(now, sourceCleared); ok {
			t.Errorf("%s at %d", sourceCleared, now)
		}
	}
	if n, ok := referenced(reset, sourceCleared); !ok || n != size {
		t.Errorf("%d of %d bytes were used at first (%v)", n, size, ok)
	}
	x := s.procs[p]
	if !s.waitsFor(sp) || s.nextRead() != x.refs.read || x.refs.read < reset+uint64(referenceTime) {
		t.Errorf("the bits are not going to be read: %+v", x.refs)
	}
	for _, prot := range []int{unix.PROT_READ, unix.PROT_READ | unix.PROT_WRITE} { // the CPU forgets which pages it knows
		if err := unix.Mprotect(b, prot); err != nil {
			t.Fatal(err)
		}
	}
	use(b[:size/4])
	if _, ok := referenced(x.refs.read-1, sourceReferenced); ok {
		t.Error("read too early")
	}
	if n, ok := referenced(x.refs.read, sourceReferenced); !ok || n < size/4 || n > size/2 {
		t.Errorf("%d of %d bytes were used, and %d are said to be (%v)", size/4, size, n, ok)
	}
	if x = s.procs[p]; s.waitsFor(sp) || s.nextRead() != 0 || x.refs.clear < 2*uint64(firstReference) {
		t.Errorf("%+v", x.refs)
	}
}

// TestNothingReferenced: a process of which there is nothing to say is left alone for as long as that took, many
// times.
func TestNothingReferenced(t *testing.T) {
	const now = 8
	s, r, asked := referencing{}, referenced{clear: now}, 0
	for range 2 {
		s.look(&r, 0, now, func(string) bool {
			asked++
			time.Sleep(time.Microsecond)
			return false
		})
	}
	if asked != 1 || r.clear < now+referenceShare*uint64(time.Microsecond) || r.read != 0 {
		t.Errorf("asked %d times: %+v", asked, r)
	}
}

// TestReferenceFails: that the bits of a process cannot be reset is said once.
func TestReferenceFails(t *testing.T) {
	var said []string
	s := referencing{warn: func(text string, args ...any) { said = append(said, fmt.Sprintf(text, args...)) }}
	for range 2 {
		var r referenced
		s.cannot(&r, fmt.Errorf("write clear_refs: %w", unix.EACCES))
		if !r.failed {
			t.Error("it is tried again")
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "permission denied") {
		t.Errorf("%q", said)
	}
	said, s.told = nil, false
	if s.cannot(&referenced{}, fmt.Errorf("open clear_refs: %w", unix.ENOENT)); said != nil {
		t.Errorf("of a process that has ended: %q", said)
	}
}
