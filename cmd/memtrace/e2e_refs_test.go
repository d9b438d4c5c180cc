//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
)

// walkRef is a reference of testdata/progs/walk.c.
type walkRef struct {
	page  uint64
	write bool
}

// walkString is what a thread of walk.c refers to, in order.
func walkString(pages, count, seed uint64) []walkRef {
	x := 88172645463325252 + seed
	refs := make([]walkRef, count)
	for i := range refs {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		refs[i] = walkRef{(x >> 8) % pages, x&1 != 0}
	}
	return refs
}

// regions are where walk.c says its regions are.
func regions(t *testing.T, out []byte) (at []addr.Addr) {
	for _, line := range bytes.Split(out, []byte("\n")) {
		var a uint64
		if n, _ := fmt.Sscanf(string(line), "region 0x%x", &a); n == 1 {
			at = append(at, addr.Addr(a))
		}
	}
	if len(at) == 0 {
		t.Fatalf("no regions in %q", out)
	}
	return at
}

// walk follows a log through the references of a thread. A phase may begin between any two
// of them: all places where the thread may be are kept.
type walk struct {
	at    addr.Addr
	pages uint64
	block addr.Addr // bytes of a block
	refs  []walkRef
	next  []int              // ascending
	open  map[addr.Addr]bool // blocks
	tid   uint32
}

// inside reports whether a block has nothing but pages of the region. Of others it is not
// known when they are open.
func (w *walk) inside(block addr.Addr) bool {
	return block >= w.at && block+w.block <= w.at+addr.Addr(w.pages*4096)
}

// of is the block of a page.
func (w *walk) of(page uint64) addr.Addr { return (w.at + addr.Addr(page*4096)) &^ (w.block - 1) }

// unseen reports whether a reference to a page need not be in the log.
func (w *walk) unseen(page uint64) bool {
	b := w.of(page)
	return w.open[b] || !w.inside(b)
}

// phase closes all pages. Before that the thread may have used those that were open.
func (w *walk) phase() {
	var next []int
	for _, n := range w.next {
		if len(next) > 0 && n <= next[len(next)-1] {
			continue
		}
		next = append(next, n)
		for n < len(w.refs) && w.unseen(w.refs[n].page) {
			n++
			next = append(next, n)
		}
	}
	w.next = next
	clear(w.open)
}

// wants describes what may come next.
func (w *walk) wants() (s string) {
	for _, n := range w.next {
		for n < len(w.refs) && w.unseen(w.refs[n].page) {
			n++
		}
		if n < len(w.refs) && len(s) < 200 {
			s += fmt.Sprintf(" %d: %v %v", n, w.at+addr.Addr(w.refs[n].page*4096), w.refs[n].write)
		}
	}
	return s + fmt.Sprintf(" (%d places, %d pages open)", len(w.next), len(w.open))
}

// ref is the reference to a block that was not open. It reports whether it can be so.
func (w *walk) ref(block addr.Addr, kind format.RefKind) bool {
	var next []int
	for _, n := range w.next {
		for n < len(w.refs) && w.unseen(w.refs[n].page) {
			n++
		}
		if n < len(w.refs) && w.of(w.refs[n].page) == block && w.refs[n].write == (kind == format.RefWrite) && kind <= format.RefWrite && kind != format.RefUnknown &&
			(len(next) == 0 || next[len(next)-1] <= n) {
			next = append(next, n+1)
		}
	}
	w.next = next
	w.open[block] = true
	return len(next) > 0
}

// checkWalk compares the references in a log with the string of each region: each that is
// recorded is the first one of its page in a phase, and none is missing.
func checkWalk(t *testing.T, log string, out []byte, pages, count uint64) (recorded int) {
	t.Helper()
	r := openLog(t, log)
	var walks []*walk
	for i, at := range regions(t, out) {
		walks = append(walks, &walk{
			at: at, pages: pages, block: 4096, refs: walkString(pages, count, uint64(i)), next: []int{0}, open: map[addr.Addr]bool{},
		})
	}
	phases := 0
	for item, err := range r.Refs(0, r.Steps()) {
		if err != nil {
			t.Fatal(err)
		}
		if item.Phase != nil {
			phases++
		}
		for i, w := range walks {
			var ok bool
			var was string
			switch {
			case item.Phase != nil:
				w.phase()
				if item.Phase.Pool > 0 {
					w.block = addr.Addr(item.Phase.Granule)
				}
				continue
			case !w.inside(item.Page):
				continue
			default:
				recorded++
				was = w.wants()
				ok = w.ref(item.Page, item.Kind)
			}
			if !ok {
				t.Fatalf("region %d: reference %d of the log is no first one of a page: %v %v, want one of %s", i, item.No, item.Page, item.Kind, was)
			}
			if w.tid == 0 {
				w.tid = item.Thread
			} else if w.tid != item.Thread {
				t.Errorf("region %d: thread %d, want %d", i, item.Thread, w.tid)
			}
		}
	}
	for i, w := range walks {
		w.phase()
		if w.next[len(w.next)-1] != len(w.refs) {
			t.Errorf("region %d: references are missing from the %dth on", i, w.next[len(w.next)-1])
		}
	}
	t.Logf("%d references recorded in %d phases, at last of blocks of %d bytes", recorded, phases, walks[0].block)
	return recorded
}

// TestWalk records a program that refers to pages in an order which is known.
func TestWalk(t *testing.T) {
	for _, c := range []struct {
		build        string
		pool         string
		pages, count uint64
		threads      string
	}{
		{"x86_64", "64", 400, 20000, "0"}, {"x86_64", "512", 1000, 20000, "0"}, {"i386", "64", 400, 10000, "0"}, {"x86_64", "256", 300, 10000, "4"},
		{"x86_64", "auto", 6000, 60000, "0"}, {"i386", "auto", 6000, 30000, "0"}, {"x86_64", "auto", 3000, 20000, "4"},
	} {
		t.Run(fmt.Sprintf("%s-%s-%s", c.build, c.pool, c.threads), func(t *testing.T) {
			t.Parallel()
			prog := compile(t, "walk", c.build)
			log := filepath.Join(t.TempDir(), "log")
			args := []string{prog, fmt.Sprint(c.pages), fmt.Sprint(c.count), c.threads}
			rec := exec.Command(binary(), append([]string{"record", "-q", "--check", "--page-trace=" + c.pool, "-o", log}, args...)...)
			var errs bytes.Buffer
			rec.Stderr = &errs
			out, err := rec.Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, errs.Bytes())
			}
			checkWalk(t, log, out, c.pages, c.count)
			if pool, err := strconv.Atoi(c.pool); err == nil && c.threads == "0" {
				checkFaults(t, log, out, pool, c.pages, c.count)
			}
		})
	}
}

// hotPages is how many pages beside those of the region were used in a phase, at least and
// at most: the walk uses them all the time.
func hotPages(t *testing.T, log string, at addr.Addr, pages uint64) (least, most int) {
	t.Helper()
	r := openLog(t, log)
	var inside, others int
	var phases []int
	for item, err := range r.Refs(0, r.Steps()) {
		switch {
		case err != nil:
			t.Fatal(err)
		case item.Phase != nil:
			if inside > others { // it is one of the walk's
				phases = append(phases, others+int(item.Phase.Pinned))
			}
			inside, others = 0, 0
		case item.Page >= at && item.Page < at+addr.Addr(pages*4096):
			inside++
		default:
			others++
		}
	}
	if len(phases) < 5 {
		t.Fatalf("only %d phases of the walk", len(phases))
	}
	phases = phases[2 : len(phases)-1]
	return slices.Min(phases), slices.Max(phases)
}

// lruMisses are the misses of a memory that keeps the pages which were used last, without
// those of first references.
func lruMisses(refs []walkRef, size int) (n uint64) {
	var memory []uint64 // the page that was used last comes first
	known := map[uint64]bool{}
	for _, r := range refs {
		i := slices.Index(memory, r.page)
		if i < 0 && known[r.page] {
			n++
		}
		known[r.page] = true
		if i >= 0 {
			memory = slices.Delete(memory, i, i+1)
		} else if len(memory) == size {
			memory = memory[:size-1]
		}
		memory = slices.Insert(memory, 0, r.page)
	}
	return n
}

// checkFaults compares what what-if says of the walk with a memory that is given all of its
// references. The pages that it uses all the time take their part of that.
func checkFaults(t *testing.T, log string, out []byte, pool int, pages, count uint64) {
	t.Helper()
	least, most := hotPages(t, log, regions(t, out)[0], pages)
	if most > 12 {
		t.Fatalf("between %d and %d pages are used all the time", least, most)
	}
	refs := walkString(pages, count, 0)
	for _, size := range []int{pool * 3 / 2, (pool + int(pages)) / 2, int(pages) * 9 / 10} {
		var report struct {
			Functions []struct {
				Low  uint64 `json:"at_least"`
				High uint64 `json:"at_most"`
				Name string
			}
		}
		text, _ := memtraceRun(t, "report", "what-if", "--format", "json", "--memory", fmt.Sprintf("%dK", 4*size), log)
		if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Functions) == 0 {
			t.Fatalf("%v\n%s", err, text)
		}
		f := report.Functions[0]
		low, high := lruMisses(refs, size-least), lruMisses(refs, size-most)
		t.Logf("%d pages: between %d and %d faults, in truth between %d and %d", size, f.Low, f.High, low, high)
		if !strings.HasPrefix(f.Name, "walk") || f.Low > high || f.High < low || f.Low == 0 {
			t.Errorf("%d pages: %s has between %d and %d faults, in truth between %d and %d", size, f.Name, f.Low, f.High, low, high)
		}
	}
}

// TestPairs records a program whose every page is used once, by an instruction that uses
// another one too: phases end between instructions. With one of the pools they would not.
func TestPairs(t *testing.T) {
	t.Parallel()
	const pages = 500
	prog := compile(t, "pairs", "x86_64")
	for _, pool := range []string{"64", "65"} {
		log := filepath.Join(t.TempDir(), "log")
		out, err := exec.Command(binary(), "record", "-q", "--page-trace="+pool, "-o", log, prog, fmt.Sprint(pages)).Output()
		if err != nil {
			t.Fatal(err)
		}
		at := regions(t, out)
		seen := map[addr.Addr][]format.RefKind{}
		r := openLog(t, log)
		for item, err := range r.Refs(0, r.Steps()) {
			if err != nil {
				t.Fatal(err)
			}
			if item.Phase == nil {
				seen[item.Page] = append(seen[item.Page], item.Kind)
			}
		}
		for i, want := range []format.RefKind{format.RefRead, format.RefWrite} {
			for page := range addr.Addr(pages) {
				if got := seen[at[i]+page*4096]; len(got) != 1 || got[0] != want {
					t.Errorf("pool %s: page %d of region %d: %v", pool, page, i, got)
				}
			}
		}
	}
}

// tracedPrograms are programs of testdata/progs that are run with a page trace, of which
// the first ones not only in the long tests. They check themselves, and leave marks.
var tracedPrograms = []string{
	"stack", "confined", "family", "signals", "i386calls",
	"sudden", "blocked", "brk", "fds", "files", "group", "jobs", "madvise", "many", "memfd", "mmapodd", "mprotect", "mremap", "race", "restart", "self",
	"shm", "stale", "timer", "vdso", "woken",
}

const quickTraced = 5 // of them

// TestTracedPrograms runs programs with a small pool, of pages and of larger blocks: their
// output, their marks and all mappings have to be what they are alone.
func TestTracedPrograms(t *testing.T) {
	for _, p := range programs(t) {
		n := slices.Index(tracedPrograms, p.name)
		if n < 0 {
			continue
		}
		for _, build := range p.builds {
			granules := []string{"4K"}
			if build == "x86_64" {
				granules = append(granules, "64K")
			}
			if p.name == "race" && build == "x86_64" {
				granules = granules[1:] // i386 has those of 4K, and each takes a minute
			}
			for _, granule := range granules {
				t.Run(p.name+"-"+build+"-"+granule, func(t *testing.T) {
					if n >= quickTraced || granule != "4K" || !slices.Contains(p.quick, build) {
						long(t)
					}
					t.Parallel()
					require(t, "ptrace", tracing())
					argv := append([]string{compile(t, p.name, build)}, p.runs[0]...)
					pl := newPlace(t)
					if _, say := pl.compare(t, patience, []string{"-q", "--check", "--page-trace=64,granule=" + granule}, nil, argv...); say != "" {
						t.Logf("memtrace said: %s", say)
					}
					checkMarks(t, pl)
				})
			}
		}
	}
}
