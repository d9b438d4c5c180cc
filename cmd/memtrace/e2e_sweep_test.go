//go:build linux

package main

import (
	le "encoding/binary"
	"fmt"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// TestSweep: memory that threads write to without a pause is as it was at one
// instant: each page that a sweep read by itself, and all of it at a snapshot. So is
// memory that is written slowly, where faults say what was written, and memory that
// another process writes, without faults.
func TestSweep(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, c := range [][]string{{"x86_64", "1000"}, {"x86_64", "1000", "heap"}, {"i386", "1000", "heap"},
		{"x86_64", "1500", "slow"}, {"i386", "1500", "slow"}, {"x86_64", "1500", "poke"}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			long(t)
			p := newPlace(t)
			flags := []string{"-q", "--snapshot", "interval=30ms"}
			if c[1] == "1500" {
				flags = append(flags, "-e", "memory") // faults are watched where calls do not cut the sweeps short
			}
			swept, whole := 0, 0
			for try := 0; try < 4 && whole == 0; try++ { // a busy machine may leave no time for a whole one
				p.compare(t, patience, flags, nil, append([]string{compile(t, "sweep", c[0])}, c[1:]...)...)
				swept, whole = checkInstants(t, p.log())
			}
			if t.Logf("%d areas of snapshots, %d pages of others", whole, swept); whole == 0 || swept == 0 {
				t.Error("nothing was tried")
			}
		})
	}
}

// checkInstants returns how many areas and pages it has looked at.
func checkInstants(t *testing.T, log string) (swept, whole int) {
	t.Helper()
	tr, err := replay.Open(log, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	const size = 4 << 20
	b := make([]byte, size)
	for e, err := range tr.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		s, ok := e.Record.(*format.Snapshot)
		if !ok {
			continue
		}
		space := snapshotSpace(t, tr, e.Step, s.MM)
		for _, a := range []addr.Addr{0x10000000, 0x14000000, 0x18000000} {
			n, asOf, err := space.ReadMem(b, a)
			if err == nil && n == size && asOf == e.Step && s.Reason != format.ReasonSweep {
				whole++
				if err := instant(b); err != nil {
					t.Errorf("step %d, %v: %v", e.Step, a, err)
				}
				var seen [4]byte // of the first area
				if n, asOf, _ := space.ReadMem(seen[:], 0x1c000000); a == 0x10000000 && n == 4 && asOf == e.Step {
					if pages := le.LittleEndian.Uint32(seen[:]); pages > 0 {
						page := (pages - 1) % (size / addr.PageSize)
						if round := le.LittleEndian.Uint32(b[page*addr.PageSize:]); round < (pages-1)/(size/addr.PageSize)+1 {
							t.Errorf("step %d: the program has seen %d pages written, page %d is of round %d", e.Step, pages, page, round)
						}
					}
				}
				continue
			}
			for o := addr.Addr(0); o < size; o += addr.PageSize {
				if n, asOf, err := space.ReadMem(b[:addr.PageSize], a+o); err == nil && n == addr.PageSize && asOf == e.Step {
					swept++
					if err := instant(b[:addr.PageSize]); err != nil {
						t.Errorf("step %d, page %v: %v", e.Step, a+o, err)
					}
				}
			}
		}
	}
	return swept, whole
}

func snapshotSpace(t *testing.T, tr *replay.Trace, step format.Step, mm uint32) *replay.AddressSpace {
	t.Helper()
	view, err := tr.At(step)
	if err != nil {
		t.Fatal(err)
	}
	space, ok := view.Space(mm)
	if !ok {
		t.Fatalf("step %d: no address space %d", step, mm)
	}
	return space
}

// instant says what is wrong with the words of an area: they never rise, and fall
// once at most, by one.
func instant(b []byte) error {
	falls := 0
	last := le.LittleEndian.Uint32(b)
	for i := 4; i < len(b); i += 4 {
		w := le.LittleEndian.Uint32(b[i:])
		if w == last {
			continue
		}
		if falls++; w != last-1 || falls > 1 {
			return fmt.Errorf("%d after %d at offset %#x, change %d", w, last, i, falls)
		}
		last = w
	}
	return nil
}

// TestDropped: memory that a thread is giving back is not said to be there when
// another has seen that it is not.
func TestDropped(t *testing.T) {
	long(t)
	require(t, "ptrace", tracing())
	p := newPlace(t)
	p.compare(t, patience, []string{"-q", "--snapshot", "interval=5ms"}, nil, compile(t, "dropped", "x86_64"), "60")
	tr, err := replay.Open(p.log(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	looked := 0
	for e, err := range tr.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		s, ok := e.Record.(*format.Snapshot)
		if !ok || s.Reason != "interval" {
			continue
		}
		space := snapshotSpace(t, tr, e.Step, s.MM)
		var says [8]byte
		if n, asOf, err := space.ReadMem(says[:], 0x14000000); n < len(says) || err != nil || asOf != e.Step {
			continue
		}
		during, gone := le.LittleEndian.Uint32(says[:]), le.LittleEndian.Uint32(says[4:])
		if during != 1 || gone == 0 {
			continue
		}
		var page [1]byte
		if n, asOf, err := space.ReadMem(page[:], 0x10000000+addr.Addr(gone-1)*addr.PageSize); n == 1 && err == nil && asOf == e.Step {
			if looked++; page[0] != 0 {
				t.Errorf("step %d: page %d is there, and the program has seen that it is not", e.Step, gone)
			}
		}
	}
	t.Logf("%d snapshots while it was given back", looked) // few of these are whole
}

// TestBefore: the log of a program that ends soon has its memory as it was before.
func TestBefore(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	prog := compile(t, "before", "x86_64")
	for try := 0; ; try++ { // a busy machine may let the program begin too late for the first snapshot
		memtraceRun(t, "record", "-q", "-o", p.log(), "--", prog)
		status, out, errs := invoke(t, "", "replay", p.log(), "--find", "the before")
		if status == 0 {
			break
		}
		if try == 9 {
			t.Fatalf("%d %s%s", status, out, errs)
		}
	}
	if _, out, errs := invoke(t, "", "replay", p.log(), "--find", "the after."); !strings.Contains(out, "[heap]") {
		t.Errorf("%s%s", out, errs)
	}
}
