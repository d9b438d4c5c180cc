//go:build linux

package dirty

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/procfs"
)

func page(n int) addr.Addr { return addr.Addr(n) << addr.PageShift }

func pages(from, to int) addr.Range { return addr.Range{Start: page(from), End: page(to)} }

// mapping is a private anonymous one, or one of a file or of shared memory.
func mapping(from, to int, kind vma.Kind) vma.VMA {
	v := vma.VMA{Range: pages(from, to), Prot: addr.Read | addr.Write, Kind: kind}
	switch kind {
	case vma.FilePrivate:
		v.Inode, v.Name = 7, "/lib"
	case vma.AnonShared, vma.Memfd, vma.FileShared:
		v.Inode, v.Name, v.Prot = uint64(100+kind), "/shared", v.Prot|addr.Shared
	case vma.VDSO:
		v.Name = "[vdso]"
	}
	return v
}

func memory(t *testing.T, vs ...vma.VMA) *dirtytest.Memory {
	t.Helper()
	set, err := vma.NewSet(vs)
	if err != nil {
		t.Fatal(err)
	}
	return dirtytest.New(set)
}

// scanned lists the pages that a scan of a range finds there, and how many pieces it took.
func scanned(t *testing.T, f Finder, r addr.Range, written, arm bool) (found []int, pieces int) {
	t.Helper()
	for next := r.Start; next < r.End; pieces++ {
		n := uint64(0)
		from := next
		var err error
		next, err = f.Scan(addr.Range{Start: next, End: r.End}, written, arm, func(g procfs.Region) {
			n += g.Len() / addr.PageSize
			for a := g.Start; a < g.End && g.Categories&Present != 0; a += addr.PageSize {
				found = append(found, int(a.Page()))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if next <= from || n > ScanPages {
			t.Fatalf("a piece from %v to %v of %d pages", from, next, n)
		}
	}
	return found, pieces
}

func list(from, to, step int) (ns []int) {
	for ; from < to; from += step {
		ns = append(ns, from)
	}
	return ns
}

// TestScan: every finder yields what is there, and those that find writes yield what was
// written, once.
func TestScan(t *testing.T) {
	const end = 1000
	for name, begin := range map[string]func(*dirtytest.Memory) Finder{
		"uffd": func(m *dirtytest.Memory) Finder { return NewUffd(&dirtytest.Uffd{Memory: m}, m, m.Mappings()) },
		"soft": func(m *dirtytest.Memory) Finder {
			s, err := NewSoftDirty(m, &dirtytest.Threads{Memory: m, Slept: map[int]string{}})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"compare": func(m *dirtytest.Memory) Finder { return NewCompare(m) },
	} {
		t.Run(name, func(t *testing.T) {
			m := memory(t, mapping(0, end, vma.AnonPrivate))
			for i := 0; i < end; i += 2 {
				m.Write(page(i), 1, false)
			}
			f := begin(m)
			finds := f.Name() != format.DirtyCompare
			if Finds(f) != finds || f.Covers(mapping(0, end, vma.AnonPrivate)) != finds {
				t.Fatalf("finds %v, covers %v", Finds(f), f.Covers(mapping(0, end, vma.AnonPrivate)))
			}
			if got, pieces := scanned(t, f, pages(0, end), false, finds); !slices.Equal(got, list(0, end, 2)) || pieces != 2 {
				t.Errorf("at first %d pages in %d pieces", len(got), pieces)
			}
			if !finds {
				return
			}
			scanned(t, f, pages(0, end), true, true) // for soft-dirty bits all was written at first
			if !f.Collect(m.Mappings()) {
				t.Error("it is not known what was written")
			}
			scanned(t, f, pages(0, end), true, true)
			m.Write(page(10), 2, false)
			m.Write(page(11), 2, false)
			for i := 300; i < 900; i++ {
				m.Write(page(i), 2, false)
			}
			f.Collect(m.Mappings())
			want := append([]int{10, 11}, list(300, 900, 1)...)
			for range 2 { // looking alone changes nothing
				if got, _ := scanned(t, f, pages(0, end), true, false); !slices.Equal(got, want) {
					t.Errorf("written: %d pages, want %d", len(got), len(want))
				}
			}
			if got, pieces := scanned(t, f, pages(0, 301), true, true); !slices.Equal(got, []int{10, 11, 300}) || pieces > 2 {
				t.Errorf("of a part: %v in %d pieces", got, pieces)
			}
			f.Collect(m.Mappings())
			if got, _ := scanned(t, f, pages(0, end), true, true); !slices.Equal(got, list(301, 900, 1)) {
				t.Errorf("the rest: %d pages", len(got))
			}
			f.Collect(m.Mappings())
			if got, _ := scanned(t, f, pages(0, end), true, true); len(got) > 0 {
				t.Errorf("found again: %v", got)
			}
			m.Ended = true
			if _, err := f.Scan(pages(0, 1), true, true, func(procfs.Region) {}); !errors.Is(err, procfs.ErrGone) && f.Exact() {
				t.Errorf("of a process that has ended: %v", err)
			}
			f.Close()
		})
	}
}

// TestRandomWrites: with writes at any time a userfaultfd finds exactly what was written
// since a page was armed, and soft-dirty bits at least that.
func TestRandomWrites(t *testing.T) {
	const end = 64
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := memory(t, mapping(0, 20, vma.AnonPrivate), mapping(20, 40, vma.FilePrivate), mapping(40, end, vma.Heap))
		th := &dirtytest.Threads{Memory: m, Slept: map[int]string{1: "0"}}
		var f Finder
		if seed%2 == 0 {
			f = NewUffd(&dirtytest.Uffd{Memory: m}, m, m.Mappings())
		} else {
			f, _ = NewSoftDirty(m, th)
		}
		written, late := map[int]bool{}, map[int]bool{}
		write := func(in map[int]bool) {
			n := rng.IntN(end)
			m.Write(page(n), rng.Uint64(), false)
			in[n] = true
		}
		for n := range end {
			written[n] = true
		}
		for range 20 {
			for range rng.IntN(20) {
				write(written)
			}
			woken := false
			m.Step = func() {
				if rng.IntN(50) == 0 { // a thread in the kernel writes, and then stands
					write(late) // it is found now or the next time
					woken = true
					th.Slept = map[int]string{1: fmt.Sprint(rng.Uint64())}
				}
			}
			th.Unsettled = rng.IntN(4) == 0
			if known := f.Collect(m.Mappings()); !known && (!woken || f.Exact()) {
				t.Fatalf("seed %d: unknown for no reason", seed)
			}
			m.Step = nil
			for v := range m.Mappings().All() {
				got, _ := scanned(t, f, v.Range, true, true)
				for n := int(v.Start.Page()); n < int(v.End.Page()); n++ {
					found := slices.Contains(got, n)
					if found {
						delete(late, n)
					}
					switch {
					case written[n] && !found && m.There(page(n)):
						t.Fatalf("seed %d: page %d was written and not found", seed, n)
					case found && !written[n] && f.Exact():
						t.Fatalf("seed %d: page %d was found and not written", seed, n)
					}
				}
			}
			written, late = late, map[int]bool{}
		}
	}
}

func TestMappings(t *testing.T) {
	for _, c := range []struct {
		v                       vma.VMA
		trackable, shared, huge bool
	}{
		{mapping(1, 2, vma.AnonPrivate), true, false, false},
		{mapping(1, 2, vma.MainStack), true, false, false},
		{mapping(1, 2, vma.VDSO), false, false, false},
		{mapping(1, 2, vma.VVAR), false, false, false},
		{mapping(1, 2, vma.Special), false, false, false},
		{mapping(512, 1024, vma.FilePrivate), true, false, true},
		{mapping(512, 1025, vma.FilePrivate), true, false, false},
		{mapping(512, 1024, vma.AnonPrivate), true, false, false},
		{mapping(1, 2, vma.FileShared), true, true, false},
		{vma.VMA{Range: pages(1, 2), Kind: vma.Memfd}, true, true, false},
		{vma.VMA{Range: pages(1, 2), Kind: vma.POSIXShm}, true, true, false},
		{vma.VMA{Range: pages(1, 2), Kind: vma.SysV}, true, true, false},
	} {
		if a, b, h := Trackable(c.v), Shared(c.v), Huge(c.v); a != c.trackable || b != c.shared || h != c.huge {
			t.Errorf("%v %v: trackable %v, shared %v, huge %v", c.v.Kind, c.v.Range, a, b, h)
		}
	}
	m := memory(t)
	u := NewUffd(&dirtytest.Uffd{Memory: m}, m, m.Mappings())
	s := new(SoftDirty)
	for _, v := range []vma.VMA{mapping(1, 2, vma.VDSO), mapping(1, 2, vma.Memfd)} {
		if u.Covers(v) || s.Covers(v) {
			t.Errorf("writes to %v are found", v.Kind)
		}
	}
	if v := mapping(512, 1024, vma.FilePrivate); !u.Covers(v) || s.Covers(v) {
		t.Error("hugetlbfs: a userfaultfd finds writes to it, soft-dirty bits do not")
	}
}
