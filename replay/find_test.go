package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay/replaytest"
)

const needle = "needle!"

// hay is a log in which pages with and without a pattern come, go, move and are
// inherited; the pattern lies inside pages and across their ends.
func hay(t *testing.T, seed uint64) *Trace {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	page := func() []byte {
		p := bytes.Repeat([]byte{'.'}, addr.PageSize)
		switch rng.IntN(6) {
		case 0:
			copy(p[rng.IntN(4000):], needle)
		case 1:
			copy(p, needle+needle)
		case 2:
			clear(p)
		default:
			n := rng.IntN(len(needle))
			copy(p[len(p)-n:], needle[:n])
			n = rng.IntN(len(needle))
			copy(p, needle[n:])
		}
		return p
	}
	b := replaytest.New(t)
	const base, n = replaytest.Anon, 12
	b.Event(1, &format.Exec{Path: "/x"}, &format.MMNew{MM: 1}, replaytest.Map(1, base, n, addr.Read|addr.Write, ""), replaytest.Thread(1, 100, 100, 1, 1, 0))
	mms, next := []uint32{1}, uint32(2)
	for range 150 {
		mm := mms[rng.IntN(len(mms))]
		at := base + addr.Addr(rng.IntN(n-2))<<addr.PageShift
		switch rng.IntN(12) {
		case 0:
			b.Event(0, &format.Lost{}, replaytest.Unmap(mm, at, 2))
		case 1:
			b.Event(0, &format.Lost{}, &format.Pages{MM: mm, Addr: at, N: 3, What: format.PageAbsent})
		case 2:
			b.Event(0, &format.Lost{}, &format.Pages{MM: mm, Addr: at, N: 3, What: format.PageZero})
		case 3:
			b.Event(0, &format.Lost{}, &format.VMAMove{MM: mm, From: base, To: base + 6<<addr.PageShift, Len: 3 << addr.PageShift})
		case 4:
			if len(mms) > 3 {
				break
			}
			mms = append(mms, next)
			b.Event(1, &format.Clone{Child: next, Flags: 17}, &format.MMNew{MM: next, From: mm}, replaytest.Thread(next, 100+next, 100+next, next, next, 1))
			next++
		case 5:
			if mm == 1 {
				break
			}
			mms = slices.DeleteFunc(mms, func(x uint32) bool { return x == mm })
			b.Event(mm, &format.Exit{Process: true}, &format.ThreadEnd{No: mm}, &format.MMDrop{MM: mm})
		default:
			data := append(page(), page()...)
			cs := []format.Change{replaytest.Map(mm, base, n, addr.Read|addr.Write, ""), &format.Pages{MM: mm, Addr: at, N: 2, What: format.PageData, Data: data}}
			if rng.IntN(3) == 0 {
				cs = append(cs, &format.Confirm{MM: mm})
			}
			b.Event(0, &format.Snapshot{MM: mm}, cs...)
		}
	}
	return New(replaytest.Open(t, b.Bytes()))
}

type place struct {
	mm   uint32
	addr addr.Addr
}

// naive reads all memory at every step.
func naive(t *testing.T, tr *Trace, want string) []string {
	t.Helper()
	open, done := map[place]format.Step{}, []string{}
	last, _ := tr.Last()
	for n := format.Step(0); n <= last+1; n++ {
		now := map[place]bool{}
		if n <= last {
			v, err := tr.At(n)
			if err != nil {
				t.Fatal(err)
			}
			for no := range v.State.MMs {
				s, _ := v.Space(no)
				all := []byte{}
				for a := replaytest.Anon; a < replaytest.Anon+12<<addr.PageShift; a += addr.PageSize {
					var p [addr.PageSize]byte
					info, _ := s.mm.Page(a)
					switch info.What {
					case format.PageData:
						if err := v.Pages.Page(info.Ref, &p); err != nil {
							t.Fatal(err)
						}
					case format.PageZero:
					default:
						p = [addr.PageSize]byte(bytes.Repeat([]byte{0xff}, addr.PageSize))
					}
					all = append(all, p[:]...)
				}
				for from := 0; ; {
					k := bytes.Index(all[from:], []byte(want))
					if k < 0 {
						break
					}
					now[place{no, replaytest.Anon + addr.Addr(from+k)}] = true
					from += k + 1
				}
			}
		}
		for p := range now {
			if _, is := open[p]; !is {
				open[p] = n
			}
		}
		for p, from := range open {
			if !now[p] {
				done = append(done, fmt.Sprintf("%d %v %d..%d", p.mm, p.addr, from, n-1))
				delete(open, p)
			}
		}
	}
	slices.Sort(done)
	return done
}

// placesOf are the places that were found, one by one as naive tells them. Of those
// that are not evenly spaced exp says where they are.
func placesOf(t *testing.T, fs []Found, exp []string) (out []string) {
	t.Helper()
	for _, f := range fs {
		says := func(a addr.Addr) string { return fmt.Sprintf("%d %v %d..%d", f.MM, a, f.From, f.To) }
		if f.Stride != 0 || f.Count == 1 {
			if f.Last != f.Addr+addr.Addr((f.Count-1)*f.Stride) {
				t.Errorf("the last of %+v", f)
			}
			for i := range f.Count {
				out = append(out, says(f.Addr+addr.Addr(i*f.Stride)))
			}
			continue
		}
		n := uint64(0)
		for a := f.Addr; a <= f.Last; a++ {
			if _, is := slices.BinarySearch(exp, says(a)); is {
				out = append(out, says(a))
				n++
			} else if a == f.Addr || a == f.Last {
				t.Errorf("%+v: nothing at %v", f, a)
			}
		}
		if n != f.Count {
			t.Errorf("%+v: there are %d", f, n)
		}
	}
	slices.Sort(out)
	return out
}

// TestGatherer: places that lie near each other are one run, and none is lost.
func TestGatherer(t *testing.T) {
	for places, want := range map[string]string{
		"5":              "5",
		"5 6 7":          "5+1*3",
		"5 13":           "5+8*2",
		"5 905":          "5, 905",
		"5 905 1805":     "5+900*3",
		"5 905 1000":     "5, 905, 1000",
		"5 13 29":        "5, 13, 29",
		"5 13 29 37 61":  "5..61*5",
		"5 9 12 15 4000": "5..15*4, 4000",
		"5 5000":         "5, 5000",
	} {
		var out []string
		g := gatherer{near: 24, yield: func(r run) error {
			switch {
			case r.count == 1:
				out = append(out, fmt.Sprint(uint64(r.first)))
			case r.stride == 0:
				out = append(out, fmt.Sprintf("%d..%d*%d", uint64(r.first), uint64(r.last), r.count))
			default:
				out = append(out, fmt.Sprintf("%d+%d*%d", uint64(r.first), r.stride, r.count))
			}
			return nil
		}}
		for _, p := range strings.Fields(places) {
			a, err := ParseNumber(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := g.add(addr.Addr(a), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.flush(); err != nil || strings.Join(out, ", ") != want {
			t.Errorf("%s: %q, want %q; %v", places, out, want, err)
		}
	}
	var all, n uint64
	g := gatherer{near: 24, yield: func(r run) error { all += r.count; return nil }}
	rng := rand.New(rand.NewPCG(4, 4))
	for a := addr.Addr(0); n < 10000; n++ {
		a += addr.Addr(1 + rng.IntN(1<<rng.IntN(14)))
		if err := g.add(a, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _ = g.flush(); all != n {
		t.Errorf("%d of %d places", all, n)
	}
}

// TestFindBytes compares with reading all memory at every step.
func TestFindBytes(t *testing.T) {
	hits := 0
	for seed := range uint64(4) {
		tr := hay(t, seed)
		wants := []string{needle, "n", "le!\x00\x00", "\x00need"}
		if seed == 0 {
			wants = append(wants, "..........")
		}
		for _, want := range wants {
			fs, err := tr.FindBytes(context.Background(), []byte(want), 0)
			if err != nil {
				t.Fatal(err)
			}
			exp := naive(t, tr, want)
			got := placesOf(t, fs, exp)
			if !slices.Equal(got, exp) {
				t.Fatalf("seed %d %q: got\n%s\nwant\n%s", seed, want, strings.Join(got, "\n"), strings.Join(exp, "\n"))
			}
			hits += len(got)
		}
	}
	if hits < 200 {
		t.Errorf("only %d hits", hits)
	}
	tr := hay(t, 0)
	if _, err := tr.FindBytes(context.Background(), make([]byte, 3), 0); err == nil {
		t.Error("zeros were looked for")
	}
}

// TestHistory compares with reading the bytes at every step.
func TestHistory(t *testing.T) {
	for seed := range uint64(3) {
		tr := hay(t, seed)
		last, _ := tr.Last()
		for _, r := range []addr.Range{
			{Start: replaytest.Anon + 2*addr.PageSize, End: replaytest.Anon + 2*addr.PageSize + 4},
			{Start: replaytest.Anon + 5*addr.PageSize - 3, End: replaytest.Anon + 6*addr.PageSize + 3},
		} {
			eras, err := tr.History(context.Background(), r, 0)
			if err != nil {
				t.Fatal(err)
			}
			k := -1
			var was string
			for n := format.Step(0); n <= last; n++ {
				v, err := tr.At(n)
				if err != nil {
					t.Fatal(err)
				}
				s, ok := v.Space(1)
				if !ok {
					t.Fatal("the first address space is gone")
				}
				b := make([]byte, r.Len())
				c, asOf, err := s.ReadMem(b, r.Start)
				is := fmt.Sprintf("%x %v", b[:c], sentinel(err))
				if is != was {
					k++
					if k >= len(eras) || eras[k].From != n || !bytes.Equal(eras[k].Value, b[:c]) || !errors.Is(eras[k].Err, sentinel(err)) {
						t.Fatalf("seed %d: era %d at step %d: %+v", seed, k, n, eras[min(k, len(eras)-1)])
					}
					if k > 0 && eras[k-1].To != n-1 {
						t.Errorf("seed %d: era %d ends at %d, not %d", seed, k-1, eras[k-1].To, n-1)
					}
				}
				if err == nil && eras[k].Seen < asOf {
					t.Errorf("seed %d: era %d was seen last at %d, not %d", seed, k, eras[k].Seen, asOf)
				}
				was = is
			}
			if k != len(eras)-1 {
				t.Errorf("seed %d: %d eras, want %d", seed, len(eras), k+1)
			}
			var b strings.Builder
			if err := WriteHistory(&b, r, eras); err != nil || strings.Count(b.String(), "\n") != len(eras) {
				t.Errorf("%v\n%s", err, b.String())
			}
		}
	}
}

// TestProvenance: every byte of a range is told of once, and as Page tells it.
func TestProvenance(t *testing.T) {
	tr := hay(t, 5)
	last, _ := tr.Last()
	r := addr.Range{Start: replaytest.Anon + 10, End: replaytest.Anon + 12*addr.PageSize}
	changes := 0
	for n := format.Step(0); n <= last; n += 7 {
		v, err := tr.At(n)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := v.Space(1)
		ps, err := tr.Provenance(s, r)
		if err != nil {
			t.Fatal(err)
		}
		at := r.Start
		for _, p := range ps {
			if p.Range.Start != at || p.Err == nil && uint64(len(p.Bytes)) != p.Range.Len() || p.After > p.Changed || p.Changed > p.AsOf || p.AsOf > n {
				t.Fatalf("step %d: %+v", n, p)
			}
			at = p.Range.End
			if p.Err != nil {
				continue
			}
			var page [addr.PageSize]byte
			asOf, err := s.Page(p.Range.Start, &page)
			if err != nil || asOf != p.AsOf || p.Bytes[0] != page[p.Range.Start-p.Range.Start.PageDown()] {
				t.Errorf("step %d, %v: as of %d, want %d; %v", n, p.Range, p.AsOf, asOf, err)
			}
			if p.After == p.Changed {
				continue
			}
			changes++
			// What was known of it then was something else, or it came anew.
			old, err := tr.At(p.Changed - 1)
			if err != nil {
				t.Fatal(err)
			}
			o, _ := old.Space(1)
			if info, _ := o.mm.Page(p.Range.Start); info.AsOf != p.After {
				t.Errorf("step %d, %v: known at %d, want %d", n, p.Range, p.After, info.AsOf)
			}
		}
		if at != r.End {
			t.Errorf("step %d: told up to %v", n, at)
		}
	}
	if changes == 0 {
		t.Error("nothing changed")
	}
}
