package top

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"memtrace/format/addr"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

func press(m *model, keys ...string) {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
		for code, name := range map[rune]string{
			tea.KeyEnter: "enter", tea.KeyEsc: "esc", tea.KeyUp: "up", tea.KeyDown: "down", tea.KeyLeft: "left", tea.KeyRight: "right",
			tea.KeyHome: "home", tea.KeyEnd: "end", tea.KeyBackspace: "backspace", tea.KeySpace: "space",
		} {
			if name == k {
				msg = tea.KeyPressMsg{Code: code}
			}
		}
		m.Update(msg)
	}
}

func fits(t *testing.T, m *model) string {
	t.Helper()
	s := m.screen()
	lines := strings.Split(s, "\n")
	if len(lines) > m.h {
		t.Errorf("%d lines on a screen of %d", len(lines), m.h)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > m.w {
			t.Errorf("%d columns on a screen of %d: %q", n, m.w, l)
		}
	}
	return s
}

// The view of a log, driven by keys, fits 80x24 and says what is asked.
func TestHistory(t *testing.T) {
	h, err := NewHistory(context.Background(), replay.New(replaytest.Open(t, replaytest.Log(t))))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m := newModel(h, Options{Plain: true, ASCII: true, Title: "a log"})
	say := func(want ...string) {
		t.Helper()
		s := fits(t, m)
		for _, w := range want {
			if !strings.Contains(s, w) {
				t.Errorf("no %q on\n%s", w, s)
			}
		}
	}
	say("a log", "[log]", "step 17", "120 KiB", "exit_group(3)", "q leave", "17 of 18")
	press(m, "enter")
	say("prog, process 100", "IN USE", "[heap]")
	press(m, "enter")
	say("42 42 42", "BBBB")
	if s := fits(t, m); strings.Contains(s, "??") {
		t.Errorf("all bytes are known:\n%s", s)
	}
	for range 48 {
		press(m, "space")
	}
	say("?? ?? ??", "?? not in the log (")
	if s := fits(t, m); strings.Count(s, "not in the log") != 1 {
		t.Errorf("why bytes are not known is not said once:\n%s", s)
	}
	press(m, "down", "down", "up", "esc", "?")
	say("KEYS", "look into a process")
	press(m, "x")
	say("IN USE")
	press(m, "/", "h", "e", "a", "p")
	say("/heap_")
	press(m, "enter")
	if s := fits(t, m); strings.Contains(s, "[stack]") || !strings.Contains(s, "[heap]") {
		t.Errorf("the filter does not filter:\n%s", s)
	}
	press(m, "esc", "s")
	say("by size", "[stack]")
	press(m, "esc", "home")
	say("step 0 ", "execve(")
	press(m, "right", "]", "]")
	say("step 3 ")
	press(m, "[", "left", "end")
	say("18 of 18", "exited with 3")
	press(m, "up", "down", "down", "down", "home", "down", "enter", "enter")
	fits(t, m)
	m.Update(tea.WindowSizeMsg{Width: 20, Height: 10})
	m.screen()
	if _, cmd := m.Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd == nil || m.end != Quit {
		t.Error("q does not leave")
	}
}

// Events that differ in numbers only are one line with their count.
func TestCollect(t *testing.T) {
	var lines []Event
	for _, l := range []string{"  7 read(3, 0x7f00) = 12", "  8 read(3, 0x7f10) = 9", " 10 write(1) = 1", "11 read(3, 0x7f10) = 9"} {
		lines = collect(lines, l)
	}
	want := []Event{{"  8 read(3, 0x7f10) = 9", 2}, {" 10 write(1) = 1", 1}, {"11 read(3, 0x7f10) = 9", 1}}
	if !slices.Equal(lines, want) {
		t.Errorf("%v", lines)
	}
	for range 2 * keptLines {
		lines = collect(collect(lines, "a()"), "b()")
	}
	if len(lines) != keptLines {
		t.Errorf("%d lines", len(lines))
	}
}

// The resident memory of mappings comes from smaps, and so does its rate.
func TestResident(t *testing.T) {
	f := NewFeed(time.Now())
	p := Proc{No: 1, Maps: []Mapping{{Name: "[heap]", ranges: []addr.Range{{Start: 0x1000, End: 0x9000}, {Start: 0x10000, End: 0x20000}}}}}
	now := time.Now()
	f.resident(&p, []byte("1000-9000 rw-p 0 00:00 0 [heap]\nRss: 8 kB\n10000-20000 rw-p 0 00:00 0 [heap]\nRss: 4 kB\nPss: 4 kB\n30000-40000 r--p\nRss: 1 kB\n"), now)
	f.resident(&p, []byte("1000-9000 rw-p 0 00:00 0 [heap]\nRss: 16 kB\n"), now.Add(2*time.Second))
	if g := p.Maps[0]; g.RSS == nil || *g.RSS != 16<<10 || g.Rate != 2<<10 {
		t.Errorf("%+v", g)
	}
}

// TestUnknownBytes: of a living program the bytes that can be read are shown, whatever lies before them, and
// why others are not is said once, on a line that is not cut off by a long name.
func TestUnknownBytes(t *testing.T) {
	f := NewFeed(time.Now())
	tr := replay.New(replaytest.Open(t, replaytest.Log(t)))
	for ev, err := range tr.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Step == 17 {
			break
		}
		f.See(ev)
	}
	long := Mapping{Name: "/" + strings.Repeat("long/", 40), ranges: []addr.Range{{Start: 0x7000f80, End: 0x7003000}}}
	readable := addr.Range{Start: 0x7001000, End: 0x7002000}
	f.ReadMem = func(_ uint32, b []byte, at addr.Addr) (int, error) {
		if !readable.Contains(at) {
			return 0, errors.New("input/output error")
		}
		n := min(len(b), int(readable.End-at))
		for i := range n {
			b[i] = 'R'
		}
		if n < len(b) {
			return n, errors.New("input/output error")
		}
		return n, nil
	}
	no := uint32(0)
	for _, x := range f.f.State().Threads {
		no = x.Proc
	}
	v := newBytes(f, no, &long)
	_, rows := v.rows(18)
	all := strings.Join(rows, "\n")
	if len(rows) != 18 || strings.Count(all, "RRRRRRRRRRRRRRRR") != 9 || rows[17] != "?? the kernel does not let them be read" {
		t.Errorf("%d lines:\n%s", len(rows), all)
	}
	v.at = 0x7001000
	if _, rows := v.rows(18); len(rows) != 18 || strings.Contains(strings.Join(rows, "\n"), "??") {
		t.Errorf("all is known:\n%s", strings.Join(rows, "\n"))
	}
	if _, why := f.Memory(no+100, 0x7001000, make([]byte, 16)); len(why) != 1 || why[0] != "the process has ended" {
		t.Errorf("%q", why)
	}
	h, err := NewHistory(context.Background(), tr)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, at := range []addr.Addr{replaytest.Heap, 0x1000} {
		b := make([]byte, 3*addr.PageSize)
		known, why := h.Memory(no, at, b)
		space, err := h.space(no, h.at)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			one := []byte{0}
			n, _, _ := space.ReadMem(one, at+addr.Addr(i))
			if known[i] != (n == 1) || n == 1 && one[0] != b[i] {
				t.Fatalf("%v: known is %v, %x and %x", at+addr.Addr(i), known[i], one[0], b[i])
			}
		}
		if slices.Contains(known, false) != (len(why) > 0) || at == 0x1000 && why[0] != "not mapped" {
			t.Errorf("%v: %q", at, why)
		}
	}
}

// Text of the screen is cut between words, and colours are left out where they are not wanted.
func TestFit(t *testing.T) {
	if s := fit(11, "  ", "one", "two", "three"); s != "one  two" {
		t.Errorf("%q", s)
	}
	m := &model{o: Options{Plain: true}}
	if s := m.paint("x", red); s != "x" {
		t.Errorf("%q", s)
	}
	m.o.Plain = false
	if s := m.paint("x", red); s != "\x1b[31mx\x1b[0m" {
		t.Errorf("%q", s)
	}
}

// A living program's view moves by itself, and d detaches.
func TestFeed(t *testing.T) {
	f := NewFeed(time.Now())
	tr := replay.New(replaytest.Open(t, replaytest.Log(t)))
	m := newModel(f, Options{Title: "prog"})
	for ev, err := range tr.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		if ev.Step == 17 {
			break
		}
		f.See(ev)
	}
	m.Update(tick{})
	s := m.screen()
	for _, w := range []string{"[live]", "\x1b[7m", "120 KiB", "d detach"} {
		if !strings.Contains(s, w) {
			t.Errorf("no %q on\n%s", w, s)
		}
	}
	m.Update(ended("ended with status 3"))
	if s := m.screen(); !strings.Contains(s, "[ended with status 3]") {
		t.Errorf("the end is not told:\n%s", s)
	}
	press(m, "d")
	if m.end != Detach {
		t.Error("d does not detach")
	}
}

// TestGone: the view of a living program is left some time after its window was closed, and at once if the program has
// ended. The program is let go.
func TestGone(t *testing.T) {
	for _, over := range []bool{false, true} {
		gone := false
		m := newModel(NewFeed(time.Now()), Options{Gone: func() bool { return gone }})
		ticks := func() (n int) {
			for range 10 * goneTicks {
				_, cmd := m.Update(tick{})
				if m.end == Detach && cmd != nil {
					if _, quits := cmd().(tea.QuitMsg); quits {
						return n
					}
				}
				n++
			}
			return n
		}
		if n := ticks(); n < 10*goneTicks {
			t.Errorf("left after %d ticks", n)
		}
		gone = true
		want := goneTicks
		if over {
			m.Update(ended("ended with status 0"))
			want = 0
		}
		if n := ticks(); n != want {
			t.Errorf("ended %v: left after %d ticks", over, n)
		}
	}
}
