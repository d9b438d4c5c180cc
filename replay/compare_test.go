package replay_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// TestCompareReservation: what two steps differ in is told by what is there. A
// reservation of terabytes with a page of data here and there takes no time.
func TestCompareReservation(t *testing.T) {
	const apart = 1 << 25 // pages: 128 GiB
	base := addr.Addr(0x100000000000)
	at := func(i int) addr.Addr { return base + addr.Addr(i)*apart<<addr.PageShift }
	zeros := func(a addr.Addr, n uint64) *format.Pages {
		return &format.Pages{MM: 1, Addr: a, N: n, What: format.PageZero}
	}
	b := New(t)
	b.Event(1, &format.Exec{Path: "/bin/a"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Stack, 8, 3, "[stack]"), zeros(Stack, 8))
	b.Call(1, "mmap", int64(base), nil, Map(1, base, 64*apart, 3, ""), zeros(base, 64*apart))
	var pages []format.Change
	for i := range 60 {
		pages = append(pages, Page(1, at(i), 'a'))
	}
	b.Event(0, &format.Snapshot{MM: 1, Reason: "test"}, pages...)
	b.Event(0, &format.Snapshot{MM: 1, Reason: "test"}, Page(1, at(1), 'b'), zeros(at(2), 1), Page(1, at(3), 'a'), Page(1, at(61), 'c'), Page(1, Stack, 's'))
	b.Call(1, "munmap", 0, nil, Unmap(1, at(4), apart))
	tr := replay.New(Open(t, b.Bytes()))
	page := func(a addr.Addr) string { return "pages " + addr.Range{Start: a, End: a + addr.PageSize}.String() }
	for _, c := range []struct {
		from, to format.Step
		want     []string
	}{
		{0, 1, nil}, // a long run of zeros is told by its mapping
		{0, 2, func() (w []string) {
			for i := range 60 {
				w = append(w, page(at(i))+" captured: 1")
			}
			return w
		}()},
		{2, 3, []string{page(at(1)) + " changed: 1", page(at(2)) + " changed: 1", page(at(61)) + " changed: 1", page(Stack) + " changed: 1 in [stack]"}},
		{3, 4, []string{page(at(4)) + " lost: 1"}},
	} {
		begun := time.Now()
		d, err := tr.Compare(context.Background(), c.from, c.to, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 5*time.Second { // a few milliseconds; page by page it is minutes
			t.Errorf("%d..%d took %v", c.from, c.to, took)
		}
		var out bytes.Buffer
		if err := d.Write(&out, replay.NoClock, time.Time{}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, "pages ") {
				got = append(got, strings.TrimSuffix(line, "\n"))
			}
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%d..%d:\n%s\nwant\n%s", c.from, c.to, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}
