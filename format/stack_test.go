package format

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"memtrace/format/arch"
)

// stackLog writes events with the given stacks. It returns the stacks as they were
// given, by step.
func stackLog(t testing.TB, rng *rand.Rand, events int, o *WriterOptions) (log []byte, want []Stack, mods []Module, texts []Text) {
	t.Helper()
	var b bytes.Buffer
	h := testHeader()
	h.Stacks = true
	w, err := NewWriter(&b, h, o)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var pool [][]RawFrame
	for i := range events {
		for len(mods) < 2 || rng.IntN(20) == 0 && len(mods) < 200 {
			m := Module{
				Class: ModuleClass(rng.IntN(4)), BuildID: fmt.Sprint("id", len(mods)), Path: fmt.Sprint("/lib/", len(mods)), Major: 8, Inode: uint64(i),
				Size: 1 << 20, Mtime: 1 << 60, TextAddr: 0x401000, TextOff: 0x1000, MM: uint32(i % 3),
			}
			no, err := w.Module(&m)
			must(err)
			if mods = append(mods, m); int(no) != len(mods) {
				t.Fatalf("module %d is number %d", len(mods), no)
			}
		}
		e := Event{Time: uint64(i) << testShift, Thread: uint32(1 + rng.IntN(3)), Record: &Syscall{Arch: arch.X86_64, Nr: 9, Returned: true}}
		var s Stack
		if rng.IntN(4) > 0 {
			var fs []RawFrame
			if len(pool) > 0 && rng.IntN(3) > 0 {
				fs = slices.Clone(pool[rng.IntN(len(pool))])
				fs = fs[rng.IntN(len(fs)):]
			}
			for range 1 + rng.IntN(5) {
				f := RawFrame{Module: ModuleNo(rng.IntN(len(mods) + 1)), Offset: rng.Uint64() >> rng.IntN(64), How: FrameHow(rng.IntN(4)), Signal: rng.IntN(5) == 0, Inexact: rng.IntN(9) == 0}
				fs = append([]RawFrame{f}, fs...)
			}
			if pool = append(pool, fs); len(pool) > 50 {
				pool = pool[1:]
			}
			s.End = StackEnd(1 + rng.IntN(int(numStackEnds)-1))
			if k := rng.IntN(len(fs) + 1); k < len(fs) { // in two parts
				caller, err := w.Stack(fs[k:], 0, s.End)
				must(err)
				s.Node, err = w.Stack(fs[:k], caller, 0)
				must(err)
			} else {
				s.Node, err = w.Stack(fs, 0, s.End)
				must(err)
			}
			for j, f := range fs {
				fr := Frame{RawFrame: f, Addr: f.Offset, Return: j > 0 && !f.Signal}
				if f.Module > 0 {
					fr.Mod = &mods[f.Module-1]
					if fr.Mod.Class == ModuleELF || fr.Mod.Class == ModuleVDSO {
						fr.Addr += 0x400000
					}
				}
				s.Frames = append(s.Frames, fr)
			}
		}
		e.Stack = s.Node
		want = append(want, s)
		if rng.IntN(40) == 0 {
			x := Text{Name: "perf.map", MM: 1, Step: Step(i), Data: bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(10))}
			if len(texts) == 1 {
				x.Data = bytes.Repeat([]byte("0123"), textPiece/2)
			}
			must(w.Text(&x))
			texts = append(texts, x)
		}
		_, err := w.Event(&e)
		must(err)
	}
	must(w.Close("done"))
	return b.Bytes(), want, mods, texts
}

func TestStacks(t *testing.T) {
	for seed := range uint64(6) {
		o := &WriterOptions{GroupSteps: 1 + int(seed)*40, epoch: 30}
		log, want, mods, texts := stackLog(t, rand.New(rand.NewPCG(seed, 1)), 400, o)
		mustVerify(t, log)
		check := func(log []byte) {
			t.Helper()
			r := openLog(t, log)
			if !r.Header().Stacks {
				t.Error("the header does not say that there are stacks")
			}
			n := 0
			for e, err := range r.Events(0) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Stack != want[n].Node {
					t.Fatalf("step %d: stack %d, want %d", n, e.Stack, want[n].Node)
				}
				s, err := r.Stack(e.Stack)
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(&want[n], s) {
					t.Fatalf("step %d: %s", n, cmp.Diff(&want[n], s))
				}
				n++
			}
			if uint64(n) != uint64(r.Steps()) || n == 0 {
				t.Fatalf("%d steps of %d", n, r.Steps())
			}
			if n == len(want) {
				var got []Text
				for x, err := range r.Texts() {
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, *x)
				}
				if !reflect.DeepEqual(texts, got) {
					t.Errorf("%d texts of %d, or others", len(got), len(texts))
				}
				if n, err := r.Modules(); err != nil || n != len(mods) {
					t.Errorf("%d modules of %d, %v", n, len(mods), err)
				}
			}
		}
		check(log)
		// Cut, as it is read and as it is recovered.
		cut := log[:len(log)*2/3]
		check(cut)
		var out bytes.Buffer
		if _, err := Recover(bytes.NewReader(cut), int64(len(cut)), nil, &out); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, out.Bytes())
		check(out.Bytes())
	}
}

// TestStackSame checks that equal stacks have one number, and that a cut one is not
// equal to a whole one.
func TestStackSame(t *testing.T) {
	w, err := NewWriter(new(bytes.Buffer), testHeader(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close("")
	no, err := w.Module(&Module{})
	if err != nil {
		t.Fatal(err)
	}
	fs := []RawFrame{{Module: no, Offset: 1}, {Module: no, Offset: 2}}
	a, err := w.Stack(fs, 0, StackComplete)
	if err != nil {
		t.Fatal(err)
	}
	nodes := w.StackNodes()
	if b, err := w.Stack(slices.Clone(fs), 0, StackComplete); err != nil || a != b || w.StackNodes() != nodes {
		t.Errorf("the same stack is %d and %d, %v", a, b, err)
	}
	if b, err := w.Stack(fs, 0, StackDepth); err != nil || a == b {
		t.Errorf("a cut stack is %d, as the whole one, %v", b, err)
	}
	for _, c := range []struct {
		frames []RawFrame
		caller StackNode
		end    StackEnd
	}{{fs, 0, 0}, {fs, 0, 99}, {fs, 999, 0}, {[]RawFrame{{Module: no + 1}}, 0, StackComplete}, {make([]RawFrame, MaxDepth+1), 0, StackComplete}} {
		if _, err := w.Stack(c.frames, c.caller, c.end); err == nil {
			t.Errorf("%d frames, caller %d, end %d: no error", len(c.frames), c.caller, c.end)
		}
	}
	if _, err := w.Event(&Event{Thread: 1, Record: &Lost{}, Stack: 999}); err == nil {
		t.Error("an event with a stack that is not there")
	}
	if _, err := w.Event(&Event{Thread: 1, Record: &Lost{}, Stack: StackNode(StackNoRule)}); err != nil {
		t.Errorf("a stack without frames: %v", err)
	}
}

// FuzzStacks reads bytes as the chunks of stacks.
func FuzzStacks(f *testing.F) {
	log, _, _, _ := stackLog(f, rand.New(rand.NewPCG(1, 1)), 100, nil)
	r, err := openHeader(bytes.NewReader(log), int64(len(log)), nil)
	if err != nil {
		f.Fatal(err)
	}
	for s := r.newScan(); ; {
		c, stored, err := s.step()
		if err != nil {
			break
		}
		if c.typ == TypeStack || c.typ == TypeModule {
			payload, err := c.decode(stored)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(payload, c.count)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, count uint32) {
		count %= MaxNodeRows
		nodes, err := parseStacks(payload, 0, count, 10)
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrLimit) {
			t.Error(err)
		}
		for i, n := range nodes {
			if n.parent == 0 || n.parent >= FirstNode+StackNode(i) || n.module > 10 {
				t.Errorf("node %d: %+v", i, n)
			}
		}
		if _, err := parseModules(payload, 0, count); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrLimit) {
			t.Error(err)
		}
	})
}

// BenchmarkStack interns stacks that are there already, as most are.
func BenchmarkStack(b *testing.B) {
	w, err := NewWriter(new(bytes.Buffer), testHeader(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close("")
	fs := make([]RawFrame, 36)
	for i := range fs {
		fs[i].Offset = uint64(i) * 1000
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Stack(fs, 0, StackComplete); err != nil {
			b.Fatal(err)
		}
	}
}
