//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
)

// writtenBy is the pages of its region to which a thread of testdata/progs/walk.c writes,
// in order.
func writtenBy(pages, count, seed uint64) (written []uint64) {
	x := 88172645463325252 + seed
	for range count {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if x&1 != 0 {
			written = append(written, (x>>8)%pages)
		}
	}
	return written
}

// writeLog is what a log has of the writes to one region.
type writeLog struct {
	at      addr.Addr
	refs    []format.Ref
	phase   []int            // of each of refs
	byPage  map[uint64][]int // refs
	held    map[[2]uint64]bool
	threads map[uint32]bool
}

// writesOf reads the writes to some regions from a log, and counts the phases.
func writesOf(t *testing.T, r *format.Reader, at []addr.Addr, pages uint64) (logs []*writeLog, phases, incomplete int) {
	t.Helper()
	for _, a := range at {
		logs = append(logs, &writeLog{at: a, byPage: map[uint64][]int{}, held: map[[2]uint64]bool{}, threads: map[uint32]bool{}})
	}
	of := func(a addr.Addr) (*writeLog, uint64) {
		for _, l := range logs {
			if a >= l.at && a < l.at+addr.Addr(pages*addr.PageSize) {
				return l, uint64(a-l.at) / addr.PageSize
			}
		}
		return nil, 0
	}
	last := uint64(0)
	for x, err := range r.Refs(0, format.NoStep) {
		if err != nil {
			t.Fatal(err)
		}
		if p := x.Phase; p != nil {
			phases++
			if p.Incomplete {
				incomplete++
			}
			for _, a := range p.HeldPages {
				if l, n := of(a); l != nil {
					l.held[[2]uint64{uint64(phases), n}] = true
				}
			}
			continue
		}
		if x.Time < last {
			t.Errorf("a write at %d after one at %d", x.Time, last)
		}
		last = x.Time
		l, n := of(x.Page)
		if l == nil {
			continue
		}
		if x.Kind != format.RefWrite && x.Kind != format.RefUnknown || x.IP == 0 || x.Page%addr.PageSize != 0 {
			t.Errorf("%+v", x.Ref)
		}
		l.threads[x.Thread] = true
		l.byPage[n] = append(l.byPage[n], len(l.refs))
		l.refs, l.phase = append(l.refs, x.Ref), append(l.phase, phases)
	}
	return logs, phases, incomplete
}

// follows says whether what was recorded is what comes of a string of writes: each one is
// recorded, or was to a page that was open. A phase may have begun between any two writes:
// all places are kept where the string may be. wrong is the first write that fits nowhere.
func (l *writeLog) follows(written []uint64) (wrong int, ok bool) {
	at, next := []int{0}, []int(nil) // refs that have been met
	for i, page := range written {
		next = next[:0]
		for k := 0; k < len(at); k++ {
			n := at[k]
			if n < len(l.refs) && l.refs[n].Kind == format.RefUnknown && !slices.Contains(at, n+1) {
				at = append(at, n+1) // it may have been a read
			}
			from, to := 0, 1<<60 // phases in which this write may be
			if n > 0 {
				from = l.phase[n-1]
			}
			if n < len(l.refs) {
				to = l.phase[n]
			}
			open := false
			if known := l.byPage[page]; len(known) > 0 {
				j := sort.SearchInts(known, n)
				open = j > 0 && l.phase[known[j-1]] >= from
			}
			for q := from; !open && q <= min(to, from+64); q++ {
				open = l.held[[2]uint64{uint64(q), page}]
			}
			if open && !slices.Contains(next, n) {
				next = append(next, n)
			}
			if n < len(l.refs) && l.refs[n].Page == l.at+addr.Addr(page*addr.PageSize) && !slices.Contains(next, n+1) {
				next = append(next, n+1)
			}
		}
		if len(next) == 0 {
			return i, false
		}
		at, next = next, at
	}
	for _, r := range l.refs[slices.Max(at):] {
		if r.Kind != format.RefUnknown {
			return len(written), false
		}
	}
	return len(written), true
}

// TestPageWrites: of a random walk whose writes are known every recorded write is right,
// and none is missing, also with threads, with snapshots at the same time, and of a program
// of 32 bits.
func TestPageWrites(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, c := range []struct {
		name, build    string
		flags          []string
		count, threads uint64
	}{
		{"512", "x86_64", []string{"--page-trace=512,engine=wp", "--snapshot", "none"}, 400000, 0},
		{"64", "x86_64", []string{"--page-trace=64,engine=wp", "--snapshot", "none"}, 100000, 0},
		{"threads", "x86_64", []string{"--page-trace=512,engine=wp", "--snapshot", "none"}, 100000, 4},
		{"snapshots", "x86_64", []string{"--page-trace=512,engine=wp", "--snapshot", "interval=5ms"}, 400000, 0},
		{"all", "x86_64", []string{"--page-trace=write", "--snapshot", "interval=5ms,exit", "--check"}, 100000, 4},
		{"i386", "i386", []string{"--page-trace=512,engine=wp"}, 200000, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			const pages = 4000
			p := newPlace(t)
			prog := compile(t, "walk", c.build)
			o := p.execute(t, patience, nil, slices.Concat([]string{binary(), "record", "-q", "-o", p.log()}, c.flags, []string{"--", prog, fmt.Sprint(pages), fmt.Sprint(c.count), fmt.Sprint(c.threads)})...)
			if o.status != 0 {
				t.Fatalf("%v", o)
			}
			var at []addr.Addr
			for line := range bytes.Lines(o.stdout) {
				var a uint64
				if n, _ := fmt.Sscanf(string(line), "region 0x%x", &a); n == 1 {
					at = append(at, addr.Addr(a))
				}
			}
			if len(at) != int(max(c.threads, 1)) {
				t.Fatalf("regions %v in %q", at, o.stdout)
			}
			r := openRun(t, p)
			logs, phases, incomplete := writesOf(t, r, at, pages)
			for seed, l := range logs {
				written := writtenBy(pages, c.count, uint64(seed))
				if i, ok := l.follows(written); !ok {
					t.Errorf("region %d: of %d writes, %d recorded, number %d does not fit", seed, len(written), len(l.refs), i)
				}
				if len(l.threads) != 1 || l.threads[0] {
					t.Errorf("region %d was written by threads %v", seed, l.threads)
				}
				t.Logf("region %d: %d writes, %d recorded, %d held", seed, len(written), len(l.refs), len(l.held))
			}
			t.Logf("%d phases", phases)
			// The kernel writes the words of threads without a fault that it tells of.
			if incomplete > phases/2 {
				t.Errorf("%d of %d phases are incomplete", incomplete, phases)
			}
			if phases < 3 {
				t.Errorf("%d phases", phases)
			}
		})
	}
}

// writesIn lists the pages of a region that a log has writes to, by address space and kind.
func writesIn(t *testing.T, r *format.Reader, at addr.Addr) map[uint32]string {
	t.Helper()
	found := map[uint32]string{}
	for x, err := range r.Refs(0, format.NoStep) {
		if err != nil {
			t.Fatal(err)
		}
		if n := (x.Page - at) / addr.PageSize; x.Phase == nil && n < 16 {
			found[x.MM] += fmt.Sprintf("%v%v", x.Kind, uint64(n))
		}
	}
	return found
}

// TestPageWritesOf: of each way to write to pages those are recorded that were written, also
// where the kernel does not tell of the faults that it has itself.
func TestPageWritesOf(t *testing.T) {
	require(t, "ptrace", tracing())
	all := func(kind string, n int) (s string) {
		for i := range n {
			s += kind + fmt.Sprint(i)
		}
		return s
	}
	for _, user := range []bool{false, true} {
		for _, build := range []string{"x86_64", "i386"} {
			t.Run(fmt.Sprintf("%s-%v", build, user), func(t *testing.T) {
				prog := compile(t, "pagewrites", build)
				p := newPlace(t)
				log := filepath.Join(p.run(), "log")
				argv := []string{binary(), "record", "-q", "--page-trace=write", "-o", log, "--", prog}
				if user {
					argv = slices.Concat([]string{tool(t, "setpriv"), "--reuid", "65534", "--regid", "65534", "--clear-groups"}, argv)
				}
				o := p.execute(t, patience, nil, argv...)
				if o.status != 0 {
					t.Fatalf("%v", o)
				}
				r := openLog(t, log)
				for line := range bytes.Lines(o.stdout) {
					var name string
					var a uint64
					if n, _ := fmt.Sscanf(string(line), "%s 0x%x", &name, &a); n != 2 {
						continue
					}
					want := []string{all("w", 16)}
					switch name {
					case "read", "moved":
						want[0] = all("w", 8)
					case "call":
						want[0] = all("c", 16)
					case "child":
						want = append(want, all("w", 8))
					}
					if got := slices.Collect(maps.Values(writesIn(t, r, addr.Addr(a)))); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
						t.Errorf("%s: %v, want %v", name, got, want)
					}
				}
			})
		}
	}
}

// openLog opens a log.
func openLog(t *testing.T, name string) *format.Reader {
	t.Helper()
	f, err := os.Open(name)
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

// TestPageWritesRefused: a program with a userfaultfd of its own runs on, and the log says
// once why its writes are not in it.
func TestPageWritesRefused(t *testing.T) {
	require(t, "ptrace", tracing())
	prog := compile(t, "pagewrites", "x86_64")
	p := newPlace(t)
	o := p.execute(t, patience, nil, binary(), "record", "-q", "--page-trace=write", "-f=false", "-o", p.log(), "--", prog, "own")
	if o.status.ExitStatus() == 77 {
		t.Skipf("%s", o.stderr)
	}
	if n := bytes.Count(o.stderr, []byte("userfaultfd of its own")); o.status != 0 || n != 1 {
		t.Errorf("%v", o)
	}
	lost := 0
	for e, err := range openRun(t, p).Events(0) {
		if err != nil {
			t.Fatal(err)
		}
		if l, ok := e.Record.(*format.Lost); ok && strings.Contains(l.What, "userfaultfd of its own") {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("the log says so %d times", lost)
	}
}

// TestPageWritesLeft: a program that makes no call has its writes recorded, when it is
// attached to and when it was launched, and runs on when the recorder is killed or leaves.
func TestPageWritesLeft(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	prog := compile(t, "pagewrites", "x86_64")
	runs := func(t *testing.T, pid string) {
		t.Helper()
		ticks := func() int {
			text, err := os.ReadFile("/proc/" + pid + "/stat")
			fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
			if err != nil || len(fields) < 12 || fields[0][0] == 'Z' {
				t.Fatalf("process %s: %s, %v", pid, text, err)
			}
			n, _ := strconv.Atoi(string(fields[11]))
			return n
		}
		begin := ticks()
		eventually(t, func() error {
			if ticks() < begin+2 {
				return errors.New("it does not run")
			}
			return nil
		})
	}
	region := func(t *testing.T, r *running) (at addr.Addr) {
		t.Helper()
		eventually(t, func() error {
			var a uint64
			if n, _ := fmt.Sscanf(string(r.output()), "read 0x%x", &a); n != 1 {
				return fmt.Errorf("it said %q", r.output())
			}
			at = addr.Addr(a)
			return nil
		})
		return at
	}
	written := func(t *testing.T, log string, at addr.Addr) {
		t.Helper()
		for _, s := range writesIn(t, openLog(t, log), at) {
			if strings.Contains(s, "w0") && strings.Contains(s, "w15") {
				return
			}
		}
		t.Errorf("its writes are not in the log")
	}
	t.Run("attached", func(t *testing.T) {
		p := newPlace(t)
		r := p.start(t, prog, "spin")
		at := region(t, r)
		o := exec.Command(binary(), "record", "-q", "--page-trace=64,engine=wp", "--max-time", "1s", "-o", p.log(), "-p", r.pid())
		if out, err := o.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		runs(t, r.pid())
		written(t, p.log(), at)
	})
	t.Run("killed", func(t *testing.T) {
		p := newPlace(t)
		r := p.start(t, binary(), "record", "-q", "--page-trace=64,engine=wp", "--snapshot", "interval=20ms", "-o", p.log(), "--", prog, "spin")
		at := region(t, r)
		time.Sleep(6 * time.Second) // references wait for up to four seconds in the writer
		recorder := r.cmd.Process.Pid
		pids := slices.DeleteFunc(p.inhabitants(), func(pid int) bool { return pid == recorder })
		if err := r.cmd.Process.Kill(); err != nil || len(pids) == 0 {
			t.Fatalf("%v, %v", pids, err)
		}
		<-r.done
		runs(t, strconv.Itoa(slices.Max(pids)))
		written(t, p.log(), at)
	})
}

// TestProgramsPageWrites runs programs that check themselves while their page writes are
// recorded: their memory is known at each mark, as it is without.
func TestProgramsPageWrites(t *testing.T) {
	require(t, "ptrace", tracing())
	for _, c := range [][2]string{
		{"content", "syscall=write"}, {"known", "interval=1ms,syscall=write"}, {"shape", "interval=2ms,syscall=write"}, {"churn", "step"},
		{"content", "interval=5ms,syscall=write"}, {"mremap", "default"}, {"family", "default"}, {"exec", "default"}, {"stack", "default"}, {"race", "default"},
	} {
		t.Run(c[0]+"-"+c[1], func(t *testing.T) {
			if c[0] != "content" {
				long(t)
			}
			t.Parallel()
			p := newPlace(t)
			p.compare(t, patience, []string{"-q", "--check", "--page-trace=64,engine=wp", "--snapshot", c[1]}, nil, compile(t, c[0], "x86_64"))
			checkMarks(t, p)
		})
	}
}
