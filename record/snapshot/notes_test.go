//go:build linux

package snapshot

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/procfs"
)

func TestClassify(t *testing.T) {
	const there = procfs.PagePresent
	for _, c := range []struct {
		v          vma.VMA
		categories uint64
		want       Class
	}{
		{mapping(0, 1, vma.AnonPrivate), procfs.PageWritten, Gone},
		{mapping(0, 1, vma.AnonPrivate), there, Own},
		{mapping(0, 1, vma.AnonPrivate), procfs.PageSwapped, Own},
		{mapping(0, 1, vma.AnonPrivate), there | procfs.PageIsZero, Zero},
		{mapping(0, 1, vma.FilePrivate), there, Own},
		{mapping(0, 1, vma.FilePrivate), there | procfs.PageIsFile, File},
		{mapping(0, 1, vma.FileShared), there | procfs.PageIsFile, File},
		{vma.VMA{Kind: vma.FileShared, Prot: addr.Read | addr.Write | addr.Shared}, there | procfs.PageIsFile, Own},
		{mapping(0, 1, vma.Memfd), there | procfs.PageIsFile, Own},
	} {
		if got := Classify(c.v, c.categories); got != c.want {
			t.Errorf("%v %x: class %d, want %d", c.v.Kind, c.categories, got, c.want)
		}
	}
}

func TestUntouched(t *testing.T) {
	zero := mapping(0, 1, vma.FilePrivate)
	zero.Name = "/dev/zero"
	for _, c := range []struct {
		v                  vma.VMA
		untouched, missing format.PageKind
		unread             bool
	}{
		{mapping(0, 1, vma.AnonPrivate), format.PageZero, format.PageZero, false},
		{mapping(0, 1, vma.Heap), format.PageZero, format.PageZero, false},
		{mapping(0, 1, vma.ThreadStack), format.PageZero, format.PageZero, false},
		{mapping(0, 1, vma.MainStack), 0, format.PageZero, false},
		{mapping(0, 1, vma.FilePrivate), format.PageFile, format.PageFile, false},
		{mapping(0, 1, vma.FileShared), format.PageFile, format.PageFile, false},
		{vma.VMA{Kind: vma.FileShared, Prot: addr.Write | addr.Shared}, 0, 0, false},
		{mapping(0, 1, vma.Memfd), 0, 0, false},
		{zero, format.PageZero, format.PageZero, false},
		{mapping(0, 1, vma.VVAR), 0, 0, true},
		{vma.VMA{Kind: vma.Special, Name: "[vsyscall]"}, 0, 0, true},
		{vma.VMA{Kind: vma.FileShared, Name: "/dev/dri/card0", Prot: addr.Write | addr.Shared}, 0, 0, true},
		{vma.VMA{Kind: vma.POSIXShm, Name: "/dev/shm/x"}, 0, 0, false},
	} {
		if u, m, r := Untouched(c.v), Missing(c.v), Unread(c.v); u != c.untouched || m != c.missing || r != c.unread {
			t.Errorf("%v %q: untouched %d, missing %d, unread %v", c.v.Kind, c.v.Name, u, m, r)
		}
	}
}

// TestFiles: when a file counts as changed, and how often it is asked for.
func TestFiles(t *testing.T) {
	asked, now := 0, uint64(1000)
	began := time.Unix(100, 0)
	stat := FileStat{Inode: 7, Changed: time.Unix(50, 0)}
	var failed error
	f := NewFiles(began, func() uint64 { return now }, func(string) (FileStat, error) {
		asked++
		return stat, failed
	})
	v := mapping(0, 1, vma.FilePrivate)
	for _, c := range []struct {
		name   string
		change func()
		since  uint64
		want   bool
		asked  int
	}{
		{"as it was", func() {}, 0, false, 1},
		{"looked before", func() { stat.Changed = time.Unix(200, 0) }, 1000, false, 1},
		{"too long ago", func() { now = 2000 }, 1001, true, 2},
		{"another file has the name", func() { stat.Inode = 9 }, 2001, false, 3},
		{"another file is mapped", func() { v.Inode = 9 }, 0, true, 4},
		{"not to be found", func() { failed = fmt.Errorf("no such file") }, 3000, false, 5},
		{"deleted", func() { v.Name += " (deleted)" }, 0, true, 6},
		{"no file", func() { v = mapping(0, 1, vma.Memfd) }, 0, false, 6},
	} {
		c.change()
		if got := f.Changing(v, c.since); got != c.want || asked != c.asked {
			t.Errorf("%s: %v, asked %d times", c.name, got, asked)
		}
	}
	v = mapping(0, 1, vma.FilePrivate)
	for i := range 2*mostFiles + 10 {
		v.Name = fmt.Sprint("/", i)
		if f.Changing(v, 0); len(f.seen) > mostFiles+1 {
			t.Fatalf("%d files are remembered", len(f.seen))
		}
	}
	if st, err := Stat("/proc/self/exe"); err != nil || st.Inode == 0 || st.Changed.IsZero() {
		t.Errorf("%+v %v", st, err)
	}
	if _, err := Stat("/nonesuch"); err == nil {
		t.Error("no error")
	}
}

// noting is an address space with mappings of some kinds, of which nothing is noted.
func noting(t *testing.T) (s *State, f dirty.Finder, set *vma.Set) {
	t.Helper()
	code := mapping(4, 8, vma.FilePrivate)
	code.Prot = addr.Read | addr.Exec
	set, err := vma.NewSet([]vma.VMA{mapping(0, 4, vma.AnonPrivate), code, mapping(8, 12, vma.FilePrivate), mapping(12, 16, vma.Memfd), mapping(16, 20, vma.VDSO)})
	if err != nil {
		t.Fatal(err)
	}
	m := dirtytest.New(set)
	return NewState(), dirty.NewUffd(&dirtytest.Uffd{Memory: m}, m, set), set
}

func ranges(s addr.Set) []addr.Range { return slices.Collect(s.All()) }

func TestFresh(t *testing.T) {
	var out script
	s, f, set := noting(t)
	s.Fresh(pages(2, 20), f, set, out.Pages)
	if want := []string{"4+4 kind 3 0"}; !slices.Equal(out.lines, want) { // it cannot be written
		t.Errorf("told %q", out.lines)
	}
	if want := []addr.Range{pages(2, 4), pages(8, 12)}; !slices.Equal(ranges(s.fresh), want) {
		t.Errorf("noted %v", s.fresh)
	}
	none := NewState()
	none.Fresh(pages(2, 20), dirty.NewCompare(nil), set, out.Pages)
	if none.fresh.Count() != 0 || len(out.lines) != 2 {
		t.Errorf("without a finder: noted %v, told %q", none.fresh, out.lines)
	}
	unread := new(State)
	unread.Fresh(pages(2, 20), f, set, out.Pages)
	if unread.fresh.Count() != 0 || len(out.lines) != 2 {
		t.Error("of an address space that is never read")
	}
	set.Remove(addr.Range{End: page(1000)})
	set.Insert(mapping(0, 4*mostNotes, vma.AnonPrivate))
	for i := range mostNotes + 10 {
		s.Fresh(pages(100+2*i, 101+2*i), f, set, out.Pages)
	}
	if s.fresh.Count() != mostNotes {
		t.Errorf("%d notes", s.fresh.Count())
	}
}

func TestDropped(t *testing.T) {
	const absent = "0+14 kind 4 0"
	for _, c := range []struct {
		name         string
		advice       arch.Advice
		done, alone  bool
		told         []string
		fresh, freed []addr.Range
	}{
		{"MADV_FREE", arch.DropsLater, true, true, []string{absent}, []addr.Range{pages(0, 4)}, []addr.Range{pages(0, 14)}},
		{"MADV_REMOVE", arch.Drops, true, true, []string{absent}, []addr.Range{pages(0, 4)}, nil},
		{"not done", arch.Drops | arch.LeavesZeros, false, true, []string{absent}, []addr.Range{pages(0, 4)}, nil},
		{"alone", arch.Drops | arch.LeavesZeros, true, true, []string{absent, "0+4 kind 2 0"}, nil, nil},
		{"not alone", arch.Drops | arch.LeavesZeros, true, false, []string{absent, "4+4 kind 3 0"}, []addr.Range{pages(0, 4), pages(8, 12)}, nil},
	} {
		var out script
		s, f, set := noting(t)
		s.fresh.Add(pages(0, 4))
		s.Dropped(addr.Range{}, c.advice, c.done, c.alone, f, set, out.Pages)
		s.Dropped(pages(0, 14), c.advice, c.done, c.alone, f, set, out.Pages)
		if !slices.Equal(out.lines, c.told) || !slices.Equal(ranges(s.fresh), c.fresh) || !slices.Equal(ranges(s.freed), c.freed) {
			t.Errorf("%s: told %q, fresh %v, freed %v", c.name, out.lines, s.fresh, s.freed)
		}
	}
}

func TestMovedAndForked(t *testing.T) {
	s := NewState()
	s.fresh.Add(pages(0, 10))
	s.freed.Add(pages(10, 12))
	s.lazy.Add(pages(14, 16))
	child := s.Fork()
	if !slices.Equal(ranges(child.lazy), []addr.Range{pages(10, 12), pages(14, 16)}) || child.fresh.Count() > 0 || child.Full() || !child.noting {
		t.Errorf("the child: %+v", child)
	}
	s.Moved(pages(5, 15), page(105))
	if want := []addr.Range{pages(0, 5), pages(105, 110)}; !slices.Equal(ranges(s.fresh), want) {
		t.Errorf("fresh %v", s.fresh)
	}
	if want := []addr.Range{pages(15, 16), pages(110, 112), pages(114, 115)}; !slices.Equal(ranges(s.freed), want) || s.lazy.Count() > 0 {
		t.Errorf("freed %v, lazy %v", s.freed, s.lazy) // nothing proves that lazy pages stay
	}
	s.lazy.Add(pages(200, 202))
	s.Gone(pages(4, 201))
	if len(ranges(s.fresh)) != 1 || s.freed.Count() != 0 || !slices.Equal(ranges(s.lazy), []addr.Range{pages(201, 202)}) {
		t.Errorf("gone: %+v", s)
	}
	if len(ranges(child.lazy)) != 2 {
		t.Errorf("the child shares notes: %v", child.lazy)
	}
}

func TestBegin(t *testing.T) {
	s, f, set := noting(t)
	s.full, s.cursor = true, page(3)
	s.fresh.Add(pages(0, 1))
	s.Begin(f, set)
	if s.Full() || !s.Rewound() || !slices.Equal(ranges(s.fresh), []addr.Range{pages(0, 1)}) {
		t.Errorf("userfaultfd: %+v", s)
	}
	m := dirtytest.New(set)
	soft, err := dirty.NewSoftDirty(m, &dirtytest.Threads{Memory: m})
	if err != nil {
		t.Fatal(err)
	}
	s.Begin(soft, set)
	if !slices.Equal(ranges(s.fresh), []addr.Range{pages(0, 12)}) {
		t.Errorf("soft-dirty bits: %v", s.fresh)
	}
	s.full = true
	if s.Doubt(); s.Full() {
		t.Error("full in doubt")
	}
	s.cursor = page(1)
	if s.Rewind(); !s.Rewound() {
		t.Error("not rewound")
	}
}

func TestParts(t *testing.T) {
	w := newWorld(t, rand.New(rand.NewPCG(1, 10)), format.DirtyWPAsync)
	parts := func(p Plan) (rs []addr.Range, narrowed bool) {
		vs, narrowed := (&reading{w.reader, w, w.find, w.state, p, never, w.book}).parts()
		for _, v := range vs {
			rs = append(rs, v.Range)
		}
		return rs, narrowed
	}
	w.mem.Unmap(pages(100, 1000))
	w.mem.Map(mapping(100, 140, vma.Memfd))
	w.mem.Map(mapping(140, 141, vma.VVAR))
	w.state.cursor = page(70)
	for _, c := range []struct {
		order Order
		want  []addr.Range
	}{
		{ByAddress, []addr.Range{pages(70, 90), pages(100, 140), pages(140, 141), pages(0, 60), pages(60, 70)}},
		{ByFault, []addr.Range{pages(70, 90), pages(100, 140), pages(140, 141), pages(0, 60), pages(60, 70)}},
		{Live, []addr.Range{pages(70, 90)}},
		{BySize, []addr.Range{pages(140, 141), pages(60, 70), pages(70, 90), pages(100, 140), pages(0, 60)}},
	} {
		if got, narrowed := parts(Plan{Order: c.order}); !slices.Equal(got, c.want) || narrowed {
			t.Errorf("order %d: %v, narrowed %v", c.order, got, narrowed)
		}
	}
	ok := true
	p := Plan{Order: ByFault, Faults: func() (addr.Set, bool) { return addr.SetOf(pages(3, 4), pages(59, 61), pages(110, 111)), ok }}
	w.state.cursor, w.state.full = 0, true
	w.state.freed.Add(pages(20, 22))
	w.state.fresh.Add(pages(30, 31))
	w.state.lazy.Add(pages(40, 41))
	if got, narrowed := parts(p); !narrowed || !slices.Equal(got, []addr.Range{pages(3, 4), pages(20, 22), pages(30, 31), pages(40, 41), pages(59, 60), pages(60, 61), pages(100, 140), pages(140, 141)}) {
		t.Errorf("by fault: %v, %v", got, narrowed)
	}
	ok = false
	if got, narrowed := parts(p); narrowed || len(got) != 4 {
		t.Errorf("by fault without faults: %v, %v", got, narrowed)
	}
	ok, w.state.left = true, true
	if _, narrowed := parts(p); narrowed {
		t.Error("narrowed, where something was left")
	}
	var names []vma.Kind
	for v := range w.reader.Narrowed(w, w.find, Plan{}) {
		names = append(names, v.Kind)
	}
	if !slices.Equal(names, []vma.Kind{vma.AnonPrivate, vma.Heap}) {
		t.Errorf("narrowed mappings: %v", names)
	}
}
