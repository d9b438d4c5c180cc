//go:build linux

package snapshot

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
)

func page(n int) addr.Addr { return addr.Addr(n) << addr.PageShift }

func pages(from, to int) addr.Range { return addr.Range{Start: page(from), End: page(to)} }

func mapping(from, to int, kind vma.Kind) vma.VMA {
	v := vma.VMA{Range: pages(from, to), Prot: addr.Read | addr.Write, Kind: kind}
	switch kind {
	case vma.FilePrivate:
		v.Inode, v.Name = 7, "/lib"
	case vma.FileShared:
		v.Inode, v.Name, v.Prot = 8, "/data", addr.Read|addr.Shared
	case vma.AnonShared, vma.Memfd:
		v.Inode, v.Name, v.Prot = uint64(100+kind), "/shared", v.Prot|addr.Shared
	case vma.VDSO:
		v.Name = "[vdso]"
	case vma.VVAR:
		v.Name = "[vvar]"
	}
	return v
}

// entry is what a log knows of a page.
type entry struct {
	what  format.PageKind
	value uint64
}

// book is a log that is told what there is: a Sink.
type book struct {
	room  []byte
	known map[addr.Addr]entry
	told  []format.Pages // without data
}

func newBook() *book { return &book{known: map[addr.Addr]entry{}} }

func (b *book) Room(n uint64) []byte {
	if b.room == nil {
		b.room = make([]byte, Chunk)
	}
	return b.room[:n]
}

func (b *book) Pages(p format.Pages) {
	for i := range p.N {
		e := entry{what: p.What}
		if p.What == format.PageData {
			e.value = binary.LittleEndian.Uint64(p.Data[i*addr.PageSize:])
		}
		b.known[p.Addr+addr.Addr(i*addr.PageSize)] = e
	}
	p.Data = nil
	b.told = append(b.told, p)
}

func (b *book) Forget(at addr.Range) {
	for a := at.Start; a < at.End; a += addr.PageSize {
		if k := b.known[a].what; k == format.PageData || k == format.PageZero {
			delete(b.known, a)
		}
	}
}

func (b *book) unmap(at addr.Range) {
	for a := at.Start; a < at.End; a += addr.PageSize {
		delete(b.known, a)
	}
}

// world is a program, the kernel under it and what a recorder keeps of it.
type world struct {
	t       *testing.T
	rng     *rand.Rand
	mem     *dirtytest.Memory
	uffd    *dirtytest.Uffd
	find    dirty.Finder
	state   *State
	reader  *Reader
	book    *book
	changed bool // the file /lib
	next    uint64
	moved   int // where to mremap moves next
}

func newWorld(t *testing.T, rng *rand.Rand, by format.Dirty) *world {
	t.Helper()
	w := &world{t: t, rng: rng, state: NewState(), book: newBook(), next: 1000, moved: 2000}
	var vs []vma.VMA
	for _, v := range []struct {
		from, to int
		kind     vma.Kind
	}{
		{0, 60, vma.AnonPrivate}, {60, 90, vma.Heap}, {100, 140, vma.FilePrivate}, {150, 170, vma.Memfd}, {180, 190, vma.FileShared},
		{200, 202, vma.VDSO}, {202, 203, vma.VVAR}, {300, 330, vma.MainStack}, {400, 1000, vma.AnonPrivate},
	} {
		vs = append(vs, mapping(v.from, v.to, v.kind))
	}
	set, err := vma.NewSet(vs)
	if err != nil {
		t.Fatal(err)
	}
	w.mem = dirtytest.New(set)
	for _, i := range []int{200, 201} {
		w.mem.Write(page(i), w.value(), true)
	}
	for v := range set.All() {
		for a := v.Start; a < v.End && v.Inode != 0; a += addr.PageSize {
			w.mem.WriteObject(a, w.value())
		}
	}
	files := NewFiles(time.Unix(100, 0), func() uint64 { return 0 }, func(name string) (FileStat, error) {
		st := FileStat{Inode: 8, Changed: time.Unix(50, 0)}
		if name == "/lib" {
			st.Inode = 7
			if w.changed {
				st.Changed = time.Unix(150, 0)
			}
		}
		return st, nil
	})
	w.reader = NewReader(files)
	for range 200 {
		w.write()
	}
	w.uffd = &dirtytest.Uffd{Memory: w.mem}
	switch by {
	case format.DirtyWPAsync:
		w.find = dirty.NewUffd(w.uffd, w.mem, set)
	case format.DirtySoft:
		if w.find, err = dirty.NewSoftDirty(w.mem, &dirtytest.Threads{Memory: w.mem, Slept: map[int]string{}}); err != nil {
			t.Fatal(err)
		}
	default:
		w.find = dirty.NewCompare(w.mem)
	}
	w.state.Begin(w.find, set)
	return w
}

// Mappings and ReadMem are the memory's; Rewatch is done by the finder.
func (w *world) Mappings() *vma.Set                         { return w.mem.Mappings() }
func (w *world) ReadMem(b []byte, a addr.Addr) (int, error) { return w.mem.ReadMem(b, a) }
func (w *world) Rewatch(v vma.VMA) bool {
	whole, _ := w.mem.Mappings().Find(v.Start)
	return w.find.Rewatch(whole.Range)
}

func (w *world) value() uint64 {
	w.next++
	return w.next
}

// somewhere is a mapping and a page in it that the program may write to.
func (w *world) somewhere() (vma.VMA, addr.Addr) {
	for {
		n := w.rng.IntN(w.mem.Mappings().Len())
		for v := range w.mem.Mappings().All() {
			if n--; n < 0 && v.Prot&addr.Write != 0 && v.Kind != vma.VDSO && v.Kind != vma.VVAR {
				return v, v.Start + addr.Addr(w.rng.Uint64N(v.Len()/addr.PageSize))*addr.PageSize
			}
		}
	}
}

func (w *world) write() {
	_, a := w.somewhere()
	w.mem.Write(a, w.value(), false)
}

// runs is something that happens without a call.
func (w *world) runs() {
	v, a := w.somewhere()
	switch w.rng.IntN(8) {
	case 0:
		w.mem.Touch(a)
	case 1:
		w.mem.Swap(a)
	case 2:
		w.mem.Reclaim(a)
	case 3:
		if v.Kind == vma.Memfd {
			w.mem.WriteObject(a, w.value()) // another process
		}
	default:
		w.mem.Write(a, w.value(), false)
	}
}

// call is a call of the program that changes mappings or contents.
func (w *world) call() {
	v, a := w.somewhere()
	at := addr.Reach(a, uint64(1+w.rng.IntN(40))*addr.PageSize).Intersect(v.Range)
	alone := w.rng.IntN(2) == 0
	others := func() {
		for range w.rng.IntN(4) {
			if !alone {
				w.write()
				w.mem.Write(at.Start, w.value(), false)
			}
		}
	}
	anon := v.Kind == vma.AnonPrivate || v.Kind == vma.Heap
	switch w.rng.IntN(6) {
	case 0, 1: // mmap over what is there
		if !anon {
			return
		}
		w.mem.Map(mapping(int(at.Start.Page()), int(at.End.Page()), vma.AnonPrivate))
		w.book.unmap(at)
		others()
		w.find.Mapped(at)
		w.state.Gone(at)
		w.state.Fresh(at, w.find, w.mem.Mappings(), w.book.Pages)
	case 2: // mremap
		if !anon || w.moved > 6000 {
			return
		}
		to := addr.Reach(page(w.moved), at.Len())
		w.moved += int(at.Len()/addr.PageSize) + 1
		w.mem.Move(at, to.Start)
		for a := at.Start; a < at.End; a += addr.PageSize {
			if e, ok := w.book.known[a]; ok {
				w.book.known[a-at.Start+to.Start] = e
			}
		}
		w.book.unmap(at)
		others()
		w.find.Moved(to)
		w.state.Gone(to)
		w.state.Moved(at, to.Start)
	case 3: // MADV_FREE
		if anon {
			w.mem.Free(at)
			others()
			w.state.Dropped(at, arch.AdviceOf(8), true, alone, w.find, w.mem.Mappings(), w.book.Pages)
		}
	case 4: // MADV_DONTNEED
		w.mem.Drop(at)
		others()
		w.state.Dropped(at, arch.AdviceOf(4), true, alone, w.find, w.mem.Mappings(), w.book.Pages)
	case 5: // something takes a mapping out of the watch, when all has been read once
		if w.state.Full() {
			w.mem.Unwatch([]addr.Range{v.Range, at}[w.rng.IntN(2)])
		}
	}
}

// truth is what a page holds now.
type truth struct {
	v      vma.VMA
	value  uint64
	there  bool
	file   uint64
	hidden bool // cannot be read
}

func (w *world) truths() map[addr.Addr]truth {
	all := map[addr.Addr]truth{}
	for v := range w.mem.Mappings().All() {
		for a := v.Start; a < v.End; a += addr.PageSize {
			all[a] = truth{v, w.mem.Truth(a), w.mem.There(a), w.mem.File(a), w.mem.Unreadable.Overlaps(addr.Reach(a, 1))}
		}
	}
	return all
}

// check compares what the log knows with what is so.
func (w *world) check(is map[addr.Addr]truth, why string) {
	w.t.Helper()
	for a, tr := range is {
		e := w.book.known[a]
		wrong := false
		switch e.what {
		case format.PageData:
			wrong = e.value != tr.value
		case format.PageZero:
			wrong = tr.value != 0
		case format.PageFile:
			wrong = tr.value != tr.file
		case format.PageUnreadable:
			wrong = !tr.hidden
		default: // not known
			private := tr.v.Kind != vma.FilePrivate && tr.v.Kind != vma.MainStack && !dirty.Shared(tr.v) && !Unread(tr.v)
			wrong = private || tr.there && tr.value != tr.file && !Unread(tr.v) || tr.v.Kind == vma.FileShared
		}
		if wrong {
			w.t.Fatalf("%s: page %#x of %v: log has kind %d, %d; memory %d, there %v, file %d", why, a.Page(), tr.v.Kind, e.what, e.value, tr.value, tr.there, tr.file)
		}
	}
}

// held reads the memory as with its threads held.
func (w *world) held(p Plan, stop func() bool) Report {
	if !w.find.Collect(w.mem.Mappings()) {
		w.state.Doubt()
	}
	out := NewCopies(w.book)
	if w.rng.IntN(2) == 0 {
		out.Keep()
	}
	full := w.state.Full()
	rep := w.reader.Read(w, w.find, w.state, p, stop, out)
	out.HandOver()
	if rep.Full == full {
		w.t.Fatalf("full %v before, report %v", full, rep.Full)
	}
	return rep
}

func never() bool { return false }
