package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"memtrace/analyze/refs"
	"memtrace/format"
	"memtrace/record/recordtest"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

func exported(t *testing.T, tr *replay.Trace, to string, o Options) []byte {
	t.Helper()
	form, err := Find(to)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if notes, err := form.Write(context.Background(), tr, &b, o); err != nil || len(notes) > 0 {
		t.Fatal(notes, err)
	}
	return b.Bytes()
}

// TestRefs compares the formats with the references that the log has.
func TestRefs(t *testing.T) {
	tr := open(t, replaytest.RefLog(t))
	last, _ := tr.Last()
	all := Options{To: last}
	var rows, dins, lackeys []string
	var ids []uint64
	seen := map[pageOf]uint64{}
	for m, err := range tr.Refs(context.Background(), 0, last) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Phase != nil {
			continue
		}
		rows = append(rows, fmt.Sprintf("%d,%d,%d,%#x,%v,%#x,%d", m.PhaseNo, m.Step, m.Thread.TID, uint64(m.Page), m.Kind, uint64(m.IP), m.Time))
		label, op := 0, " L "
		switch m.Kind {
		case format.RefWrite:
			label, op = 1, " S "
		case format.RefFetch:
			label, op = 2, "I  "
		}
		dins = append(dins, fmt.Sprintf("%d %x", label, uint64(m.Page)))
		lackeys = append(lackeys, fmt.Sprintf("%s%x,4", op, uint64(m.Page)))
		k := pageOf{m.MM, uint64(m.Page)}
		if seen[k] == 0 {
			seen[k] = uint64(len(seen)) + 1
		}
		ids = append(ids, seen[k])
	}
	if len(rows) != 139 || !strings.Contains(strings.Join(rows, "\n"), "1,0,100,0x555555558000,w,0x555555554014,") {
		t.Errorf("%d references, the first of them %q", len(rows), rows[:3])
	}
	for to, want := range map[string][]string{"refs": append([]string{"phase,step,tid,page,kind,ip,time"}, rows...), "din": dins, "lackey": lackeys} {
		if got := string(exported(t, tr, to, all)); got != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s:\n%s", to, got)
		}
	}
	b := exported(t, tr, "oracleGeneral", all)
	if len(b) != 24*len(ids) {
		t.Fatalf("%d bytes for %d references", len(b), len(ids))
	}
	le := binary.LittleEndian
	for i, id := range ids {
		x := b[24*i:]
		next := int64(-1)
		for k := i + 1; k < len(ids) && next < 0; k++ {
			if ids[k] == id {
				next = int64(k) + 1
			}
		}
		if le.Uint32(x) != 0 || le.Uint64(x[4:]) != id || le.Uint32(x[12:]) != 1 || int64(le.Uint64(x[16:])) != next {
			t.Errorf("reference %d is % x, page %d, next %d", i, x[:24], id, next)
		}
	}
	if got := exported(t, tr, "din", Options{From: 4, To: 4, PID: 101}); strings.Count(string(got), "\n") != 3 {
		t.Errorf("%s", got)
	}
	for _, to := range []string{"refs", "oracleGeneral"} {
		form, _ := Find(to)
		if _, err := form.Write(context.Background(), open(t, replaytest.Log(t)), new(bytes.Buffer), Options{}); err == nil || err.Error() != replay.NoRefs {
			t.Errorf("%s of a log without references: %v", to, err)
		}
	}
}

// oracle simulates memories of size pages on what an oracleGeneral file has, as a simulator
// reads it: LRU, and Belady's from the file's own times of next use.
func oracle(b []byte, size int) (lru, belady uint64) {
	type request struct {
		page uint64
		next int64
	}
	var recent []uint64          // the last one first
	future := map[uint64]int64{} // pages in memory, and when they are used next
	const never = int64(1) << 62
	for ; len(b) > 0; b = b[24:] {
		r := request{binary.LittleEndian.Uint64(b[4:]), int64(binary.LittleEndian.Uint64(b[16:]))}
		if i := slices.Index(recent, r.page); i >= 0 {
			recent = slices.Delete(recent, i, i+1)
		} else {
			lru++
			recent = recent[:min(len(recent), size-1)]
		}
		recent = slices.Insert(recent, 0, r.page)
		if _, hit := future[r.page]; !hit {
			belady++
			if len(future) == size {
				last, worst := int64(-1), uint64(0)
				for page, next := range future {
					if next > last || next == last && page < worst {
						last, worst = next, page
					}
				}
				delete(future, worst)
			}
		}
		if r.next < 0 {
			r.next = never
		}
		future[r.page] = r.next
	}
	return lru, belady
}

// TestOracle has another simulator read an export: its misses must be those of the reports'
// column RECORDED, and of the optimum.
func TestOracle(t *testing.T) {
	tr := open(t, replaytest.RefLog(t))
	last, _ := tr.Last()
	b := exported(t, tr, "oracleGeneral", Options{To: last})
	c, opt := simulated(t, tr)
	for size := 1; size < 40; size++ {
		_, plain, _ := c.Misses(uint64(size))
		lru, belady := oracle(b, size)
		if lru != plain+c.Cold || belady != opt.Misses(size) {
			t.Errorf("%d pages: %d misses (LRU) and %d (Belady), want %d and %d", size, plain+c.Cold, opt.Misses(size), lru, belady)
		}
	}
}

// simulated has package refs read all references of a log.
func simulated(t *testing.T, tr *replay.Trace) (c refs.Curve, opt *refs.Optimum) {
	t.Helper()
	last, _ := tr.Last()
	d := refs.NewDepths()
	var ids []uint32
	for m, err := range tr.Refs(context.Background(), 0, last) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Phase == nil {
			x := d.Touch(m.MM, m.Page.Page())
			c.Add(x)
			ids = append(ids, x.Page)
		}
	}
	return c, refs.NewOptimum(ids, d.Pages())
}

// TestCachesim has libCacheSim count the misses of an export, which must be those of
// package refs.
func TestCachesim(t *testing.T) {
	cachesim, err := exec.LookPath("cachesim")
	recordtest.Require(t, "cachesim", err)
	tr := open(t, replaytest.RefLog(t))
	last, _ := tr.Last()
	name := filepath.Join(t.TempDir(), "trace.oracleGeneral")
	if err := os.WriteFile(name, exported(t, tr, "oracleGeneral", Options{To: last}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, opt := simulated(t, tr)
	const references = 139
	ratio := regexp.MustCompile(`miss ratio (0\.[0-9]+)`)
	for _, size := range []int{2, 5, 9, 14, 20} {
		_, plain, _ := c.Misses(uint64(size))
		for algo, want := range map[string]uint64{"lru": plain + c.Cold, "belady": opt.Misses(size)} {
			out, err := exec.Command(cachesim, name, "oracleGeneral", algo, strconv.Itoa(size), "--ignore-obj-size", "1").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			m := ratio.FindSubmatch(out)
			if m == nil {
				t.Fatalf("no miss ratio in %s", out)
			}
			if want := fmt.Sprintf("%.4f", float64(want)/references); string(m[1]) != want {
				t.Errorf("%s of %d pages: %s, want %s", algo, size, m[1], want)
			}
		}
	}
}
