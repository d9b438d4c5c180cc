package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

const (
	rand0     = addr.Addr(0x10000)
	randPages = 6
	randBytes = randPages * addr.PageSize
)

// byteModel is an address space byte by byte: what was captured of each page, and
// over it what calls wrote.
type byteModel struct {
	page [randPages]struct {
		known bool
		asOf  format.Step
	}
	under  [randBytes]byte
	call   [randBytes]bool
	over   [randBytes]byte
	callOf [randBytes]format.Step
}

// at is what a reader is to see: ok is false for a byte that is not known.
func (m *byteModel) at(i int) (v byte, asOf format.Step, call, ok bool) {
	p := &m.page[i/addr.PageSize]
	switch {
	case m.call[i] && (!p.known || m.callOf[i] > p.asOf):
		return m.over[i], m.callOf[i], true, true
	case p.known:
		return m.under[i], p.asOf, false, true
	}
	return 0, 0, false, false
}

func (m *byteModel) forget(page int) {
	clear(m.call[page*addr.PageSize:][:addr.PageSize])
	m.page[page].known = false
}

// randomCalls makes a log of calls that write, snapshots, moves and a fork, with
// the models of both address spaces after each step.
func randomCalls(tb testing.TB, seed uint64, steps int) ([]byte, [][2]*byteModel) {
	rng := rand.New(rand.NewPCG(seed, 21))
	b := replaytest.New(tb)
	var mm [2]*byteModel
	mm[0] = new(byteModel)
	var states [][2]*byteModel
	note := func(format.Step) {
		var s [2]*byteModel
		for i := range mm {
			if mm[i] != nil {
				c := *mm[i]
				s[i] = &c
			}
		}
		states = append(states, s)
	}
	note(b.Event(1, &format.Exec{Path: "/x"}, &format.MMNew{MM: 1}, replaytest.Map(1, rand0, randPages, addr.Read|addr.Write, ""), replaytest.Thread(1, 100, 100, 1, 1, 0)))
	fill := func(p []byte) {
		for i := range p {
			p[i] = byte(rng.IntN(3))
		}
	}
	read, _ := arch.X86_64.Number("read")
	for n := format.Step(1); int(n) < steps; n++ {
		who := 0
		if mm[1] != nil && rng.IntN(3) == 0 {
			who = 1
		}
		m, no := mm[who], uint32(who+1)
		switch k := rng.IntN(20); {
		case k == 0 && mm[1] == nil:
			c := *mm[0]
			mm[1] = &c
			note(b.Event(1, &format.Clone{Child: 2, Flags: 17}, &format.MMNew{MM: 2, From: 1}, replaytest.Thread(2, 101, 101, 2, 2, 1)))
		case k == 1:
			from, to := rng.IntN(randPages), rng.IntN(randPages)
			if from == to {
				to = (from + 1) % randPages
			}
			move := &format.VMAMove{MM: no, From: rand0 + addr.Addr(from*addr.PageSize), To: rand0 + addr.Addr(to*addr.PageSize), Len: addr.PageSize}
			m.page[to] = m.page[from]
			copy(m.under[to*addr.PageSize:][:addr.PageSize], m.under[from*addr.PageSize:])
			copy(m.over[to*addr.PageSize:][:addr.PageSize], m.over[from*addr.PageSize:])
			copy(m.call[to*addr.PageSize:][:addr.PageSize], m.call[from*addr.PageSize:])
			copy(m.callOf[to*addr.PageSize:][:addr.PageSize], m.callOf[from*addr.PageSize:])
			m.forget(from)
			note(b.Call(no, "mremap", int64(move.To), nil, move))
		case k == 2:
			page := rng.IntN(randPages)
			m.forget(page)
			a := rand0 + addr.Addr(page*addr.PageSize)
			note(b.Call(no, "mmap", int64(a), nil, replaytest.Unmap(no, a, 1), replaytest.Map(no, a, 1, addr.Read|addr.Write, "")))
		case k < 7: // a snapshot of what calls wrote to, or of single pages
			all := k < 4
			s := &format.Snapshot{MM: no, Reason: "interval"}
			var cs []format.Change
			for page := range randPages {
				at := page * addr.PageSize
				if all != slices.Contains(m.call[at:at+addr.PageSize], true) && !(rng.IntN(4) == 0) {
					continue
				}
				if rng.IntN(6) == 0 && !all {
					m.forget(page)
					cs = append(cs, &format.Pages{MM: no, Addr: rand0 + addr.Addr(at), N: 1, What: format.PageAbsent})
					continue
				}
				m.forget(page)
				fill(m.under[at:][:addr.PageSize])
				if rng.IntN(4) == 0 {
					clear(m.under[at:][:addr.PageSize])
				}
				m.page[page].known, m.page[page].asOf = true, n
				cs = append(cs, &format.Pages{MM: no, Addr: rand0 + addr.Addr(at), N: 1, What: format.PageData, Data: bytes.Clone(m.under[at:][:addr.PageSize])})
			}
			if all {
				cs = append(cs, &format.Confirm{MM: no})
				for page := range m.page {
					m.page[page].asOf = n
				}
			}
			note(b.Event(no, s, cs...))
		default:
			c := &format.Syscall{Arch: arch.X86_64, Nr: read, Returned: true}
			for range 1 + rng.IntN(2) {
				size := 1 + rng.IntN(30)
				if rng.IntN(4) == 0 {
					size = 1 + rng.IntN(6000)
				}
				at := rng.IntN(randBytes - size)
				if rng.IntN(2) == 0 { // across the end of a page
					at = max(0, (1+rng.IntN(randPages-1))*addr.PageSize-rng.IntN(min(size, 20)+1))
					size = min(size, randBytes-at)
				}
				data := make([]byte, size)
				fill(data)
				copy(m.over[at:], data)
				for i := range size {
					m.call[at+i], m.callOf[at+i] = true, n
				}
				c.Bufs = append(c.Bufs, format.Buf{Arg: 1, Out: true, Addr: rand0 + addr.Addr(at), Data: data})
			}
			c.Bufs = append(c.Bufs, format.Buf{Arg: 1, Addr: rand0, Data: []byte("read by the call, not written")},
				format.Buf{Arg: 0x10, Out: true, Addr: rand0, Data: []byte("a name")})
			var with []format.Change
			if rng.IntN(4) == 0 { // a snapshot that is due at the call: of its step, read after its buffers
				for page := range randPages {
					if at := page * addr.PageSize; rng.IntN(2) == 0 {
						fill(m.under[at:][:addr.PageSize])
						m.page[page].known, m.page[page].asOf = true, n
						for i := at; i < at+addr.PageSize; i++ {
							m.call[i] = m.call[i] && m.callOf[i] == n
						}
						with = append(with, &format.Pages{MM: no, Addr: rand0 + addr.Addr(at), N: 1, What: format.PageData, Data: bytes.Clone(m.under[at:][:addr.PageSize])})
					}
				}
			}
			note(b.Event(no, c, with...))
		}
	}
	return b.Bytes(), states
}

// TestCallBytes compares all of memory at every step with the model.
func TestCallBytes(t *testing.T) {
	for seed := range uint64(4) {
		log, states := randomCalls(t, seed, 250)
		tr := replay.New(replaytest.Open(t, log))
		cur := tr.Cursor()
		defer cur.Close()
		for n := range states {
			if _, err := cur.Next(); err != nil {
				t.Fatal(err)
			}
			if n%7 == 0 { // what the cursor has must be what a seek gives
				v, err := tr.At(format.Step(n))
				if err != nil {
					t.Fatal(err)
				}
				compareBytes(t, fmt.Sprintf("seed %d, seek to %d", seed, n), v, states[n])
			}
			if n%5 == 0 {
				compareBytes(t, fmt.Sprintf("seed %d, step %d", seed, n), cur.View(), states[n])
			}
		}
	}
}

func compareBytes(t *testing.T, what string, v *replay.View, want [2]*byteModel) {
	t.Helper()
	var page [addr.PageSize]byte
	for i, m := range want {
		if m == nil {
			continue
		}
		s, ok := v.Space(uint32(i + 1))
		if !ok {
			t.Fatalf("%s: no address space %d", what, i+1)
		}
		for p := range randPages {
			a := rand0 + addr.Addr(p*addr.PageSize)
			parts, err := s.Stretches(a, &page)
			if err != nil {
				t.Fatal(err)
			}
			at := a
			for _, x := range parts {
				if x.Range.Start != at || x.Range.Empty() {
					t.Fatalf("%s: stretch %v at %v", what, x.Range, at)
				}
				for at = x.Range.Start; at < x.Range.End; at++ {
					v, asOf, call, ok := m.at(int(at - rand0))
					if ok != (x.Err == nil) || ok && (v != page[at-a] || asOf != x.AsOf || call != x.Call) {
						t.Fatalf("%s, space %d, %v: %d of step %d (call %v, %v), want %d of step %d (call %v, known %v)",
							what, i+1, at, page[at-a], x.AsOf, x.Call, x.Err, v, asOf, call, ok)
					}
				}
			}
			if at != a+addr.PageSize {
				t.Fatalf("%s: page %v ends at %v", what, a, at)
			}
		}
		// The same through the other ways.
		for _, a := range []int{0, 4090, 9000} {
			got := make([]byte, 5000)
			n, _, err := s.ReadMem(got, rand0+addr.Addr(a))
			for k := range got {
				v, _, _, ok := m.at(a + k)
				if !ok {
					var u *replay.UnknownError
					if n != k || !errors.As(err, &u) || u.Addr != rand0+addr.Addr(a+k) {
						t.Fatalf("%s: %d bytes from %#x and %v, want %d", what, n, a, err, k)
					}
					break
				}
				if got[k] != v {
					t.Fatalf("%s: byte %#x is %d", what, a+k, got[k])
				}
			}
		}
		pages := map[addr.Addr]bool{}
		for run, err := range s.Pages(addr.Range{Start: rand0, End: rand0 + randBytes}) {
			if err != nil {
				t.Fatal(err)
			}
			for k := range run.N {
				pages[run.Addr+addr.Addr(k<<addr.PageShift)] = true
				if p := int(run.Addr-rand0)/addr.PageSize + int(k); run.Mixed != slices.Contains(m.call[p*addr.PageSize:][:addr.PageSize], true) {
					t.Fatalf("%s: page %d mixed: %v", what, p, run.Mixed)
				}
			}
		}
		for p := range randPages {
			if want := m.page[p].known || slices.Contains(m.call[p*addr.PageSize:][:addr.PageSize], true); want && !pages[rand0+addr.Addr(p*addr.PageSize)] {
				t.Fatalf("%s: page %d is in no run", what, p)
			}
		}
	}
}

// TestCallHistory compares eras with what the model has at each step.
func TestCallHistory(t *testing.T) {
	for seed := range uint64(4) {
		log, states := randomCalls(t, seed, 250)
		tr := replay.New(replaytest.Open(t, log))
		for _, at := range []int{4093, 8192, 12000} {
			r := addr.Range{Start: rand0 + addr.Addr(at), End: rand0 + addr.Addr(at+6)}
			eras, err := tr.History(context.Background(), r, 100)
			if err != nil {
				t.Fatal(err)
			}
			k := -1
			calls := 0
			for n := range states {
				m := states[n][0]
				var want []byte
				for i := at; i < at+6; i++ {
					v, _, _, ok := m.at(i)
					if !ok {
						break
					}
					want = append(want, v)
				}
				if k+1 < len(eras) && eras[k+1].From == format.Step(n) {
					k++
					if e := &eras[k]; e.Call != "" {
						calls++
						if _, asOf, call, ok := m.at(at + len(e.Value) - 1); len(e.Value) == 6 && ok && call && asOf == e.From && e.Call != "read" {
							t.Errorf("step %d: %q", n, e.Call)
						}
					}
				}
				if k < 0 || !bytes.Equal(eras[k].Value, want) {
					t.Fatalf("seed %d, %#x at step %d: %v, want %v", seed, at, n, eras[max(k, 0)], want)
				}
			}
			if k != len(eras)-1 || calls == 0 {
				t.Errorf("%d eras of %d, %d by calls", k+1, len(eras), calls)
			}
		}
	}
}

// TestCallFind compares what is found with a search of the model at each step.
func TestCallFind(t *testing.T) {
	for seed := range uint64(4) {
		log, states := randomCalls(t, seed, 250)
		tr := replay.New(replaytest.Open(t, log))
		for _, want := range [][]byte{{1, 2, 2, 1, 0, 2, 1}, {2, 2, 1, 1, 2, 0, 0, 1, 2}, {1, 1, 1, 1, 1, 1}} {
			found, err := tr.FindBytes(context.Background(), want, 0)
			if err != nil {
				t.Fatal(err)
			}
			type spot struct {
				mm uint32
				at addr.Addr
			}
			wanted := map[spot][]format.Step{}
			for n := range states {
				for i, m := range states[n] {
					if m == nil {
						continue
					}
					for a := 0; a+len(want) <= randBytes; a++ {
						k := 0
						for ; k < len(want); k++ {
							if v, _, _, ok := m.at(a + k); !ok || v != want[k] {
								break
							}
						}
						if k == len(want) {
							s := spot{uint32(i + 1), rand0 + addr.Addr(a)}
							wanted[s] = append(wanted[s], format.Step(n))
						}
					}
				}
			}
			if len(wanted) == 0 {
				t.Fatal("nothing to be found")
			}
			got := map[spot][]format.Step{} // steps at which it is there
			for _, f := range found {
				n := uint64(0)
				for a := f.Addr; a <= f.Last; a++ {
					at := spot{f.MM, a}
					switch {
					case f.Count == 1:
					case f.Stride != 0 && uint64(a-f.Addr)%f.Stride != 0:
						continue
					case f.Stride == 0: // unevenly spaced: where it is just as long
						has := func(n format.Step) bool { return slices.Contains(wanted[at], n) }
						if !has(f.From) || !has(f.To) || f.From > 0 && has(f.From-1) || has(f.To+1) {
							continue
						}
					}
					n++
					for n := f.From; n <= f.To; n++ {
						got[at] = append(got[at], n)
					}
				}
				if n != f.Count {
					t.Errorf("%+v: there are %d", f, n)
				}
			}
			for s, w := range wanted {
				slices.Sort(got[s])
				if !slices.Equal(got[s], w) {
					t.Fatalf("seed %d, %v in space %d: at steps %v, want %v", seed, s.at, s.mm, got[s], w)
				}
				delete(got, s)
			}
			if len(got) > 0 {
				t.Fatalf("seed %d: found where it is not: %v", seed, got)
			}
		}
	}
}
