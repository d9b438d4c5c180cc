//go:build linux

package dirty

import (
	"errors"
	"slices"
	"strconv"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty/dirtytest"
)

// TestCollect: when bits are cleared, and when everything counts as written.
func TestCollect(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*dirtytest.Memory, *dirtytest.Threads)
		known   bool
		cleared int // times
	}{
		{"quiet", func(*dirtytest.Memory, *dirtytest.Threads) {}, true, 1},
		{"a call changes mappings", func(_ *dirtytest.Memory, th *dirtytest.Threads) { th.Unsettled = true }, true, 0},
		{"a ring of io_uring", func(m *dirtytest.Memory, _ *dirtytest.Threads) {
			m.Map(vma.VMA{Range: pages(50, 51), Name: "anon_inode:[io_uring]", Kind: vma.FileShared, Prot: addr.Shared})
		}, true, 0},
		{"aio", func(m *dirtytest.Memory, _ *dirtytest.Threads) {
			m.Map(vma.VMA{Range: pages(50, 51), Name: "/[aio] (deleted)", Kind: vma.FileShared, Prot: addr.Shared})
		}, true, 0},
		{"a thread runs in the kernel", func(_ *dirtytest.Memory, th *dirtytest.Threads) { th.Slept = nil }, true, 0},
		{"a thread wakes up during the look", func(m *dirtytest.Memory, th *dirtytest.Threads) {
			steps := 0
			m.Step = func() {
				if steps++; steps == 3 {
					m.Write(page(3), 9, false)
					th.Slept = map[int]string{}
				}
			}
		}, true, 1},
		{"threads wake up all the time", func(m *dirtytest.Memory, th *dirtytest.Threads) {
			steps := 0
			m.Step = func() {
				steps++
				th.Slept = map[int]string{1: strconv.Itoa(steps)}
			}
		}, true, 0},
		{"a thread wakes up before the clearing", func(m *dirtytest.Memory, th *dirtytest.Threads) {
			asked := 0
			m.Step = func() {
				// Asleep, 8 pages, Asleep, then ClearSoftDirty begins
				if asked++; asked == 11 {
					m.Write(page(3), 9, false)
					th.Slept = map[int]string{}
				}
			}
		}, false, 1},
		{"the bits cannot be cleared", func(_ *dirtytest.Memory, th *dirtytest.Threads) { th.Refused = errors.New("no") }, true, 0},
		{"the process has ended", func(m *dirtytest.Memory, _ *dirtytest.Threads) { m.Ended = true }, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := memory(t, mapping(0, 8, vma.AnonPrivate))
			th := &dirtytest.Threads{Memory: m, Slept: map[int]string{1: "7"}}
			for i := range 8 {
				m.Write(page(i), 1, false)
			}
			s, err := NewSoftDirty(m, th)
			if err != nil {
				t.Fatal(err)
			}
			scanned(t, s, everywhere.Intersect(pages(0, 8)), true, true)
			s.Scan(everywhere, true, true, nil) // nothing else is there
			m.Write(page(5), 2, false)
			th.Cleared = 0
			c.prepare(m, th)
			if known := s.Collect(m.Mappings()); known != c.known || th.Cleared != c.cleared {
				t.Errorf("known %v, cleared %d times", known, th.Cleared)
			}
			m.Step, m.Ended = nil, false
			got, _ := scanned(t, s, pages(0, 8), true, true)
			switch {
			case !c.known && !slices.Equal(got, list(0, 8, 1)):
				t.Errorf("not everything counts as written: %v", got)
			case c.known && !slices.Contains(got, 5), c.known && slices.Contains(got, 0):
				t.Errorf("written: %v", got)
			}
		})
	}
	m := memory(t)
	if _, err := NewSoftDirty(m, &dirtytest.Threads{Memory: m, Refused: errors.New("no")}); err == nil {
		t.Error("soft-dirty bits that cannot be cleared")
	}
}

// TestSoftScan: of what is remembered as written, what is there is found once, whatever
// is asked for at a time.
func TestSoftScan(t *testing.T) {
	m := memory(t, mapping(0, 1200, vma.AnonPrivate))
	for i := 0; i < 1200; i += 2 { // every other page is there
		m.Write(page(i), 1, false)
	}
	s := &SoftDirty{asked: asked{m}, written: addr.SetOf(pages(0, 5), pages(9, 10), pages(20, 1141))}
	if s.Pages() != 5+1+1121 {
		t.Errorf("%d pages", s.Pages())
	}
	got, pieces := scanned(t, s, pages(0, 1139), true, true)
	if want := append([]int{0, 2, 4}, list(20, 1139, 2)...); !slices.Equal(got, want) || pieces != 3 {
		t.Errorf("%d pages in %d pieces, want %d", len(got), pieces, len(want))
	}
	s.Moved(addr.Range{})
	s.Moved(pages(1150, 1152))
	if rest := slices.Collect(s.written.All()); !slices.Equal(rest, []addr.Range{pages(1139, 1141), pages(1150, 1152)}) {
		t.Errorf("left: %v", rest)
	}
	m.Ended = true
	if _, err := s.Scan(pages(1100, 1200), true, true, nil); err == nil || s.Pages() != 4 {
		t.Errorf("after an error %d pages are left, %v", s.Pages(), err)
	}
}

func TestAsleep(t *testing.T) {
	const quiet = "Name:\tx\nState:\tS (sleeping)\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n"
	texts := map[int]string{
		1: quiet,
		2: "Name:\tx\nState:\tR (running)\nvoluntary_ctxt_switches:\t5\n",
		3: "Name:\tx\nState:\tS (sleeping)\n",
		4: "Name:\tx\n",
		5: "State:\tD (disk sleep)\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t7\n",
	}
	status := func(tid int) ([]byte, error) {
		if text, ok := texts[tid]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("gone")
	}
	for _, c := range []struct {
		tids []int
		all  bool
	}{{nil, true}, {[]int{1, 5}, true}, {[]int{1, 2}, false}, {[]int{3}, false}, {[]int{4}, false}, {[]int{1, 6}, false}} {
		if slept, all := Asleep(c.tids, status); all != c.all || all && len(slept) != len(c.tids) {
			t.Errorf("%v: %v %v", c.tids, slept, all)
		}
	}
	a, _ := Asleep([]int{1}, status)
	texts[1] = texts[5]
	if b, _ := Asleep([]int{1}, status); a[1] == b[1] {
		t.Error("a thread that has slept again looks the same")
	}
}
