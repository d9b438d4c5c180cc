//go:build linux

package main

import (
	le "encoding/binary"
	"fmt"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// TestSweep: memory that threads write to without a pause is as it was at one
// instant: each page that a sweep read by itself, and all of it at a snapshot.
func TestSweep(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386"} {
		for _, args := range [][]string{{"1500"}, {"1500", "heap"}} {
			t.Run(fmt.Sprint(build, args), func(t *testing.T) {
				p := newPlace(t)
				p.compare(t, time.Minute, []string{"-q", "--snapshot", "interval=30ms"}, nil, append([]string{compile(t, "sweep", build)}, args...)...)
				checkInstants(t, p.log())
			})
		}
	}
}

func checkInstants(t *testing.T, log string) {
	t.Helper()
	tr, err := replay.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	const size = 4 << 20
	b := make([]byte, size)
	swept, whole := 0, 0
	for e, err := range tr.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		s, ok := e.Record.(*format.Snapshot)
		if !ok {
			continue
		}
		view, err := tr.At(e.Step)
		if err != nil {
			t.Fatal(err)
		}
		space, ok := view.Space(s.MM)
		if !ok {
			t.Fatalf("step %d: no address space %d", e.Step, s.MM)
		}
		for _, a := range []addr.Addr{0x10000000, 0x14000000, 0x18000000} {
			n, asOf, err := space.ReadMem(b, a)
			if err == nil && n == size && asOf == e.Step && s.Reason != format.ReasonSweep {
				whole++
				if err := instant(b); err != nil {
					t.Errorf("step %d, %v: %v", e.Step, a, err)
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
	t.Logf("%d areas of snapshots, %d pages of others", whole, swept)
	if whole == 0 || swept == 0 {
		t.Errorf("%d areas of snapshots, %d pages of others: nothing was tried", whole, swept)
	}
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
