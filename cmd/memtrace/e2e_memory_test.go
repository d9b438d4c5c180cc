//go:build linux

package main

import (
	"bytes"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// openRun opens the log of a run.
func openRun(t *testing.T, p *place) *format.Reader {
	t.Helper()
	f, err := os.Open(p.log())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// applied yields the events of a log, each with the state after it.
func applied(t *testing.T, r *format.Reader) iter.Seq2[*format.Event, *format.State] {
	return func(yield func(*format.Event, *format.State) bool) {
		t.Helper()
		state := r.Initial()
		for e, err := range r.Events(0) {
			if err == nil {
				err = state.ApplyEvent(e)
			}
			if err != nil {
				t.Fatalf("after step %d: %v", state.Step, err)
			}
			if !yield(e, state) {
				return
			}
		}
	}
}

// TestStepIsExact: with --snapshot step the memory of a program is known as of
// every call, signal, exec, fork and end of it.
func TestStepIsExact(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, build := range []string{"x86_64", "i386"} {
		for _, name := range []string{"churn", "signals"} {
			t.Run(name+"-"+build, func(t *testing.T) {
				if build == "i386" {
					long(t)
				}
				t.Parallel()
				p := newPlace(t)
				p.compare(t, patience, []string{"-q", "--snapshot", "step"}, nil, compile(t, name, build))
				r := openRun(t, p)
				seen := map[format.Kind]int{}
				for e, state := range applied(t, r) {
					switch rec := e.Record.(type) {
					case *format.Clone:
						e.Thread = rec.Child
					case *format.Syscall, *format.Signal, *format.Exec:
					default:
						continue
					}
					th := state.Threads[e.Thread]
					if th == nil {
						continue
					}
					mm := state.MMs[th.MM]
					page, ok := addr.Addr(0), false
					for v := range mm.VMAs.All() {
						if v.Prot&addr.Write != 0 && v.Prot&addr.Shared == 0 {
							page, ok = v.Start, true
							break
						}
					}
					if !ok {
						continue
					}
					seen[e.Record.Kind()]++
					if info, ok := mm.Page(page); !ok || info.AsOf != e.Step {
						t.Fatalf("step %d, %T: page %v is as of step %d (%v)", e.Step, e.Record, page, info.AsOf, ok)
					}
				}
				if seen[format.KindSyscall] < 30 || seen[format.KindClone] == 0 || seen[format.KindExec] == 0 || name == "signals" && seen[format.KindSignal] == 0 {
					t.Errorf("only %v were looked at", seen)
				}
			})
		}
	}
}

// TestFilesStayFiles: pages of a library that nobody has written to are left to the
// file at every snapshot.
func TestFilesStayFiles(t *testing.T) {
	require(t, "ptrace", tracing())
	p := newPlace(t)
	p.compare(t, patience, []string{"-q", "--snapshot", "interval=5ms,syscall=write"}, nil, compile(t, "content", "x86_64"))
	r := openRun(t, p)
	for e, state := range applied(t, r) {
		for _, c := range e.Changes {
			c, ok := c.(*format.Pages)
			if !ok || c.What != format.PageData {
				continue
			}
			if v, _ := state.MMs[c.MM].VMAs.Find(c.Addr); v.File() && v.Prot&addr.Exec != 0 && v.Kind == vma.FilePrivate {
				t.Errorf("step %d: %d pages at %v of %s are in the log", e.Step, c.N, c.Addr, v.Name)
			}
		}
	}
}

// TestKilledSnapshots: SIGKILL at any moment after the first snapshot leaves the
// program running, and a log in which the memory of every snapshot is what the
// program had then. MEMTRACE_KILLS says how often, else twice, or 6 times with
// MEMTRACE_LONG.
func TestKilledSnapshots(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	kills := 2
	if longRun {
		kills = 6
	}
	if s := os.Getenv("MEMTRACE_KILLS"); s != "" {
		var err error
		if kills, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills {
		build := []string{"x86_64", "i386"}[i%2]
		t.Run(fmt.Sprintf("%d-%s", i, build), func(t *testing.T) {
			prog := compile(t, "pages", build)
			p := newPlace(t)
			const threads, pages = 3, 64
			r := p.start(t, binary(), "record", "-q", "--snapshot", "interval=10ms", "-o", p.log(), "--", prog, fmt.Sprint(threads), fmt.Sprint(pages), "400", "bed")
			p.snapshotTaken(t)
			time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
			killRecorder(t, p, r, func() { _ = p.wake() })
			if _, err := os.Stat(filepath.Join(p.run(), "done")); err != nil {
				t.Fatalf("the program did not come to its end: %v", err)
			}
			tell(t, 0, "info", p.log())
			whole := filepath.Join(p.dir, "whole")
			tell(t, 0, "recover", p.log(), "-o", whole)
			tell(t, 0, "verify", whole)
			tell(t, 3, "verify", p.log())
			checkPages(t, p, threads, pages)
		})
	}
}

// TestKilledLauncher: a recorder that is killed before the program has begun leaves
// nothing behind.
func TestKilledLauncher(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, set := range []string{"all", "memory"} {
		for i := range 20 {
			p := newPlace(t)
			r := p.start(t, binary(), "record", "-q", "-e", set, "-o", p.log(), "--", "/bin/true")
			time.Sleep(time.Duration(i) * time.Millisecond)
			_ = r.cmd.Process.Kill()
			eventually(t, func() error {
				if pids := p.inhabitants(); len(pids) > 0 {
					return fmt.Errorf("killed after %d ms: %v is left", i, pids)
				}
				return nil
			})
		}
	}
}

// TestShortAndLarge: what is saved by default at the end of a short program with
// much memory is true, and what is not is said to be missing; the stack is there.
// The policy exit saves all.
func TestShortAndLarge(t *testing.T) {
	require(t, "ptrace", tracing())
	const threads, pages = 16, 4096
	prog := compile(t, "pages", "x86_64")
	for _, c := range []struct {
		policy string
		spare  bool
	}{{"default", true}, {"default,exit", false}} {
		t.Run(c.policy, func(t *testing.T) {
			if !c.spare {
				long(t)
			}
			p := newPlace(t)
			begin := time.Now()
			p.compare(t, patience, []string{"-q", "--snapshot", c.policy}, nil, prog, fmt.Sprint(threads), fmt.Sprint(pages), "4")
			took := time.Since(begin)
			known, looked := checkPages(t, p, threads, pages)
			var end format.Step
			cut := false
			r := openRun(t, p)
			for e, err := range r.Events(0) {
				if err != nil {
					t.Fatal(err)
				}
				switch rec := e.Record.(type) {
				case *format.Snapshot:
					if end = e.Step; rec.PauseNS == 0 && rec.Reason != format.ReasonSweep {
						t.Errorf("step %d: %s snapshot, and nobody was held", e.Step, rec.Reason)
					}
				case *format.Lost:
					cut = cut || strings.Contains(rec.What, "saved in part")
				}
			}
			switch {
			case cut != (known < looked):
				t.Errorf("%d of %d pages known; cut short: %v", known, looked, cut)
			case cut && !c.spare || !cut && c.spare && took < 2*time.Second:
				t.Errorf("cut short: %v, in a run of %v", cut, took)
			}
			tell(t, 0, "replay", "--at", fmt.Sprint(end), "--mem", "[stack]:16", p.log())
		})
	}
}

// TestAsleep: a program that has all its threads in calls from before the first
// snapshot on is saved whole, however much it has.
func TestAsleep(t *testing.T) {
	long(t)
	require(t, "ptrace", tracing())
	t.Parallel()
	const threads, pages = 4, 4096
	p := newPlace(t)
	r := p.start(t, binary(), "record", "-q", "--snapshot", "interval=300ms", "-o", p.log(), "--",
		compile(t, "pages", "x86_64"), fmt.Sprint(threads), fmt.Sprint(pages), "4", "bed")
	eventually(t, func() error {
		time.Sleep(100 * time.Millisecond)
		log, err := soFar(p)
		if err != nil {
			return err
		}
		tr := replay.New(log)
		last, _ := tr.Last()
		known, err := knownPages(tr, last, threads, pages)
		if err == nil && known < threads*pages {
			err = fmt.Errorf("step %d: %d of %d pages known", last, known, threads*pages)
		}
		return err
	})
	if err := p.wake(); err != nil {
		t.Fatal(err)
	}
	r.wait(t)
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d: %s", code, brief(r.output()))
	}
	checkPages(t, p, threads, pages)
}

// wake ends the sleep of testdata/progs/pages.c in its FIFO, which is called bed. It
// fails if the program is not there yet, or has ended.
func (p *place) wake() error {
	bed, err := os.OpenFile(filepath.Join(p.run(), "bed"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return bed.Close()
}

// knownPages counts the pages of testdata/progs/pages.c that a log has at a step.
func knownPages(tr *replay.Trace, step format.Step, threads, pages int) (known int, err error) {
	view, err := tr.At(step)
	if err != nil {
		return 0, err
	}
	procs := view.Processes()
	if len(procs) == 0 {
		return 0, fmt.Errorf("step %d: no process", step)
	}
	space, err := procs[0].Space()
	if err != nil {
		return 0, err
	}
	var page [addr.PageSize]byte
	for th := range threads {
		for no := range pages {
			if _, err := space.Page(addr.Addr(0x10000000+th*0x1000000+no*addr.PageSize), &page); err == nil {
				known++
			}
		}
	}
	return known, nil
}

// TestHeadless: an address space is saved after the thread or the process that it
// was first seen with has ended.
func TestHeadless(t *testing.T) {
	require(t, "ptrace", tracing())
	want := make([]byte, 64*addr.PageSize)
	for i := range len(want) / 8 {
		encoding.LittleEndian.PutUint64(want[8*i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	for _, build := range []string{"x86_64", "i386"} {
		for _, what := range []string{"thread", "process"} {
			for _, policy := range []string{"exit", "interval=10ms", "syscall=nanosleep,syscall=clock_nanosleep"} {
				t.Run(build+"/"+what+"/"+policy, func(t *testing.T) {
					if build == "i386" {
						long(t)
					}
					t.Parallel()
					p := newPlace(t)
					r := p.start(t, binary(), "record", "-q", "-o", p.log(), "--snapshot", policy, "--", compile(t, "headless", build), what)
					if policy != "exit" {
						eventually(t, func() error {
							time.Sleep(50 * time.Millisecond)
							log, err := soFar(p)
							if err != nil {
								return err
							}
							return headlessKnown(log, want)
						})
					}
					p.letGo(t)
					r.wait(t)
					log := openRun(t, p)
					for e, err := range log.Events(0) {
						if err != nil {
							t.Fatal(err)
						}
						// "left out", as on a busy machine; others follow
						if lost, ok := e.Record.(*format.Lost); ok && !strings.Contains(lost.What, "left out") {
							t.Error(lost.What)
						}
					}
					if err := headlessKnown(log, want); err != nil {
						t.Error(err)
					}
				})
			}
		}
	}
}

// headlessKnown says what a log lacks of what testdata/progs/headless.c has filled,
// at its last snapshot.
func headlessKnown(log *format.Reader, want []byte) error {
	var last format.Step
	var pid uint32
	state := log.Initial()
	for e, err := range log.Events(0) {
		if err == nil {
			err = state.ApplyEvent(e)
		}
		if err != nil {
			return err
		}
		if _, ok := e.Record.(*format.Snapshot); ok && state.Threads[e.Thread] != nil {
			last, pid = e.Step, state.Threads[e.Thread].TGID
		}
	}
	if last == 0 {
		return errors.New("no snapshot")
	}
	view, err := replay.New(log).At(last)
	if err != nil {
		return err
	}
	proc, err := view.Process(pid)
	if err != nil {
		return err
	}
	space, err := proc.Space()
	if err != nil {
		return err
	}
	got := make([]byte, len(want))
	if n, _, err := space.ReadMem(got, 0x10000000); n < len(got) || !bytes.Equal(got, want) {
		return fmt.Errorf("step %d: %d of %d bytes: %v", last, n, len(got), err)
	}
	return nil
}

// checkPages compares the pages of testdata/progs/pages.c at every snapshot with
// what the marks before it say of them: each was last written in the generation
// that was then over, or is being written in the next.
// known is how many of the looked-at pages of the last snapshot the log has.
func checkPages(t *testing.T, p *place, threads, pages uint64) (known, looked int) {
	t.Helper()
	r := openRun(t, p)
	trace := replay.New(r)
	type mark struct {
		step format.Step
		gen  uint64
	}
	marks := make([][]mark, threads)
	var snapshots []format.Step
	for e, err := range r.Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		switch rec := e.Record.(type) {
		case *format.Syscall:
			if nr, _ := rec.Arch.Number("write"); rec.Nr == nr && int32(rec.Args[0]) == -1 {
				marks[rec.Args[2]] = append(marks[rec.Args[2]], mark{e.Step, rec.Args[1]})
			}
		case *format.Snapshot:
			snapshots = append(snapshots, e.Step)
		}
	}
	var page [addr.PageSize]byte
	for _, step := range snapshots {
		view, err := trace.At(step)
		if err != nil {
			t.Fatal(err)
		}
		space, err := view.Processes()[0].Space()
		if err != nil {
			t.Fatal(err)
		}
		known, looked = 0, 0
		for th := range threads {
			for no := range pages {
				looked++
				at := addr.Addr(0x10000000 + th*0x1000000 + no*addr.PageSize)
				asOf, err := space.Page(at, &page)
				if err != nil {
					continue
				}
				known++
				var over uint64
				for _, m := range marks[th] {
					if m.step <= asOf {
						over = m.gen
					}
				}
				checkPage(t, page[:], asOf, over, th, no)
			}
		}
	}
	t.Logf("%d events, %d snapshots, %d of %d pages known at the last", r.Steps(), len(snapshots), known, looked)
	return known, looked
}

// checkPage: page no of a thread that is done with generation over.
func checkPage(t *testing.T, page []byte, asOf format.Step, over, thread, no uint64) {
	t.Helper()
	was, next := over-min(over, (over+no)%4), over+1
	if (next+no)%4 != 0 {
		next = was
	}
	for i := uint64(0); i < addr.PageSize/8; i++ {
		word := func(gen uint64) uint64 {
			if gen == 0 || (gen+no)%4 != 0 {
				return 0 // never written
			}
			return gen<<40 | thread<<32 | no<<16 | i
		}
		got := encoding.LittleEndian.Uint64(page[8*i:])
		if got != word(next) {
			next = was
		}
		if got != word(next) {
			t.Fatalf("page %d of thread %d as of step %d, after generation %d: word %d is %#x", no, thread, asOf, over, i, got)
		}
	}
}
