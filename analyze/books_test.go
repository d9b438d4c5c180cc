package analyze

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
	rt "memtrace/replay/replaytest"
)

// pageModel is whose memory is whose, page by page.
type pageModel struct {
	spaces map[uint32]map[addr.Addr]*modelPage
	sums   map[string]*modelSum
}

type modelPage struct {
	owner, by string // of the mapping, and of what is committed ("" if it is not)
	inherited bool
	prot      addr.Prot
	fork      bool // committed before the fork
}

type modelSum struct{ mapped, unmapped, committed, live, left int64 }

func (p *pageModel) sum(o string) *modelSum {
	if p.sums[o] == nil {
		p.sums[o] = &modelSum{}
	}
	return p.sums[o]
}

const pageSize = int64(addr.PageSize)

func (p *pageModel) drop(mm uint32, a addr.Addr) {
	m := p.spaces[mm][a]
	if m == nil {
		return
	}
	p.uncommit(m)
	if !m.inherited {
		p.sum(m.owner).unmapped += pageSize
	}
	delete(p.spaces[mm], a)
}

func (p *pageModel) uncommit(m *modelPage) {
	if m.by != "" && !m.fork {
		p.sum(m.by).live -= pageSize
	}
	m.by, m.fork = "", false
}

func (p *pageModel) protect(m *modelPage, prot addr.Prot, o string) {
	m.prot = prot
	switch {
	case prot&addr.Shared != 0 || prot&(addr.Read|addr.Write) == 0:
		p.uncommit(m)
	case prot&addr.Write != 0 && m.by == "":
		m.by = o
		p.sum(o).committed += pageSize
		p.sum(o).live += pageSize
	}
}

func (p *pageModel) mapped(mm uint32, a addr.Addr, prot addr.Prot, o string) {
	p.drop(mm, a)
	m := &modelPage{owner: o}
	p.spaces[mm][a] = m
	p.sum(o).mapped += pageSize
	p.protect(m, prot, o)
}

// TestBooksModel compares the books with a model that knows the owner of each page, over
// random calls of processes that fork.
func TestBooksModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := rt.NewStacks(t)
		model := &pageModel{spaces: map[uint32]map[addr.Addr]*modelPage{1: {}}, sums: map[string]*modelSum{}}
		b.Event(1, &format.Exec{Path: "/p"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0))
		threads := []uint32{1} // each in the address space of its number
		next := uint32(2)
		protOf := map[int]addr.Prot{0: 0, 1: addr.Read, 2: addr.Read | addr.Write, 3: addr.Read | addr.Write | addr.Shared}
		state := map[uint32]*vma.Set{1: new(vma.Set)}
		for range 400 {
			k := r.IntN(len(threads))
			th := threads[k]
			set := state[th]
			site := fmt.Sprintf("[unmapped]+%#x", 0x1000+0x10*r.IntN(6))
			var frame uint64
			fmt.Sscanf(site, "[unmapped]+%v", &frame)
			b.Through(format.StackComplete, format.RawFrame{Offset: frame})
			a, n := rt.Anon+addr.Addr(r.IntN(40))<<addr.PageShift, uint64(1+r.IntN(8))
			span := addr.Range{Start: a, End: a + addr.Addr(n)<<addr.PageShift}
			prot := protOf[r.IntN(4)]
			name := ""
			if prot&addr.Shared != 0 {
				name = "/dev/zero (deleted)"
			}
			switch op := r.IntN(12); {
			case op < 5: // mmap, over what is there
				c := rt.Map(th, a, n, prot, name)
				set.Insert(c.VMA)
				b.Call(th, "mmap", int64(a), []uint64{uint64(a), n * addr.PageSize, 3, 0x32}, c)
				for p := span.Start; p < span.End; p += addr.PageSize {
					model.mapped(th, p, prot, site)
				}
			case op < 7:
				set.Remove(span)
				b.Call(th, "munmap", 0, []uint64{uint64(a), n * addr.PageSize}, rt.Unmap(th, a, int(n)))
				for p := span.Start; p < span.End; p += addr.PageSize {
					model.drop(th, p)
				}
			case op < 9: // mprotect of what is private
				var cs []format.Change
				for _, v := range set.Cut(span) {
					if v.Prot&addr.Shared == 0 && prot&addr.Shared == 0 {
						v.Prot = prot
						cs = append(cs, &format.VMASet{MM: th, VMA: v})
						set.Insert(v)
						for p := v.Start; p < v.End; p += addr.PageSize {
							model.protect(model.spaces[th][p], prot, site)
						}
					}
				}
				b.Call(th, "mprotect", 0, []uint64{uint64(a), n * addr.PageSize, uint64(prot)}, cs...)
			case op < 10: // mremap of one mapping to a far place, larger or smaller
				v, ok := set.Find(a)
				if !ok {
					continue
				}
				to := rt.Moved + addr.Addr(r.IntN(40))<<addr.PageShift
				size := uint64(1 + r.IntN(8))
				moved := v
				moved.Range = addr.Range{Start: to, End: to + addr.Addr(size)<<addr.PageShift}
				keep := min(v.Len(), size*addr.PageSize)
				b.Call(th, "mremap", int64(to), []uint64{uint64(v.Start), v.Len(), size * addr.PageSize, 3, uint64(to)},
					&format.VMAMove{MM: th, From: v.Start, To: to, Len: keep},
					&format.VMADel{MM: th, Range: v.Range}, &format.VMASet{MM: th, VMA: moved})
				set.Remove(v.Range)
				set.Insert(moved)
				old := map[uint64]*modelPage{}
				for off := uint64(0); off < v.Len(); off += addr.PageSize {
					p := v.Start + addr.Addr(off)
					if off < keep {
						old[off] = model.spaces[th][p]
						delete(model.spaces[th], p)
					} else {
						model.drop(th, p)
					}
				}
				for p := moved.Start; p < moved.End; p += addr.PageSize {
					model.drop(th, p)
				}
				for off := uint64(0); off < size*addr.PageSize; off += addr.PageSize {
					if p := old[off]; p != nil {
						model.spaces[th][to+addr.Addr(off)] = p
					} else {
						model.mapped(th, to+addr.Addr(off), v.Prot, site)
					}
				}
			case op < 11 && len(threads) < 6: // fork
				b.Event(th, &format.Clone{Child: next, Flags: 17}, &format.MMNew{MM: next, From: th}, rt.Thread(next, 100+next, 100+next, next, next, th))
				state[next] = set.Clone()
				model.spaces[next] = map[addr.Addr]*modelPage{}
				for a, p := range model.spaces[th] {
					c := *p
					c.inherited, c.fork = true, c.by != ""
					model.spaces[next][a] = &c
				}
				threads = append(threads, next)
				next++
			case len(threads) > 1 && k > 0: // the end of a process
				b.Stack = 0
				b.Event(th, &format.Exit{Process: true}, &format.ThreadEnd{No: th}, &format.MMDrop{MM: th})
				for _, p := range model.spaces[th] {
					if p.by != "" && !p.fork {
						model.sum(p.by).live -= pageSize
						model.sum(p.by).left += pageSize
					}
				}
				delete(model.spaces, th)
				delete(state, th)
				threads = append(threads[:k], threads[k+1:]...)
			}
		}
		tr := replay.New(rt.Open(t, b.Bytes()))
		last, _ := tr.Last()
		books, err := keep(context.Background(), tr, Options{To: last, By: "address"}, 0, func(m *replay.Moment, b *books) error { return b.check(m.State) })
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		seen := 0
		for _, h := range books.list {
			want := model.sum(h.name)
			got := modelSum{h.mapped, h.unmapped, h.committed, h.live, h.left}
			if got != *want {
				t.Errorf("seed %d: %s has %+v, want %+v", seed, h.name, got, *want)
			}
			if h.live != h.committed-h.released-h.left || h.peak < h.live {
				t.Errorf("seed %d: %s does not add up: %+v", seed, h.name, h)
			}
			if h.mapped > 0 {
				seen++
			}
		}
		if seen < 5 {
			t.Errorf("seed %d: %d sites", seed, seen)
		}
		var mapped int64
		for _, h := range books.list {
			mapped += h.liveMapped
		}
		_ = tr.Close()
		if t.Failed() {
			return
		}
	}
}

// check says whether the books and the mappings of a state agree: each mapped byte has
// an owner, and no other has.
func (b *books) check(s *format.State) error {
	for no, mm := range s.MMs {
		all := b.space(no)
		for v := range mm.VMAs.All() {
			if g := all.mapped.gaps(v.Range); len(g) > 0 {
				return fmt.Errorf("space %d: nobody owns %v", no, g[0])
			}
		}
		for v := range all.mapped.set.All() {
			for _, g := range (&book{mm.VMAs}).gaps(v.Range) {
				return fmt.Errorf("space %d: %v has an owner and is not mapped", no, g)
			}
		}
	}
	return nil
}
