package format_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/redact"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// These tests read logs that lie in all the ways that there are to read a log.

// mutators are what mutants are made of.
func mutators(t testing.TB) []*format.Mutator {
	var ms []*format.Mutator
	for _, b := range append(format.Seeds(t), replaytest.Log(t)) {
		ms = append(ms, format.NewMutator(t, b))
	}
	return ms
}

// What reading a log of a few kilobytes in all ways may take. Each way has the limits of one
// command. The worst logs take 3 to 8 s on two idle CPUs, and 12 s beside other tests; mostTime
// is ten times that, for slower machines. It finds a reader that never ends.
const (
	mostHeap = 400 << 20 // with what the collector has not found yet
	mostTime = 2 * time.Minute
)

// tryAll reads a log in all ways. What comes out does not matter, but that it comes
// out, and that they agree.
func tryAll(t testing.TB, name string, log []byte) {
	t.Helper()
	done := make(chan uint64)
	stop := make(chan struct{})
	go func() { // the most that the heap has had
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		most := uint64(0)
		for {
			metrics.Read(s)
			most = max(most, s[0].Value.Uint64())
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	start := time.Now()
	readAll(t, name, log)
	took := time.Since(start)
	close(stop)
	if most := <-done; most > mostHeap || took > mostTime {
		t.Errorf("%s: %d MiB and %v for %d bytes", name, most>>20, took, len(log))
	}
}

func readAll(t testing.TB, name string, log []byte) {
	t.Helper()
	r := bytes.NewReader(log)
	_, bad := format.Verify(r, r.Size(), nil, nil)
	known(t, name+": verify", bad)
	var out bytes.Buffer
	_, err := format.Recover(r, r.Size(), nil, &out)
	known(t, name+": recover", err)
	if err != nil && out.Len() > 0 {
		t.Errorf("%s: recover wrote %d bytes, then %v", name, out.Len(), err)
	} else if err == nil {
		if _, err := format.Verify(bytes.NewReader(out.Bytes()), int64(out.Len()), nil, nil); err != nil {
			t.Errorf("%s: what recover made does not verify: %v", name, err)
		}
	}
	rd, err := format.NewReader(r, r.Size(), nil)
	if err != nil {
		known(t, name+": open", err)
		return
	}
	redactAll(t, name, rd, log)
	ctx := context.Background()
	tr := replay.New(rd)
	last, ok := tr.Last()
	if !ok {
		return
	}
	err = tr.List(ctx, io.Discard, replay.ListOptions{AllCalls: true, To: last})
	known(t, name+": list", err)
	if err != nil && bad == nil {
		t.Errorf("%s: verify calls it whole, but list says %v", name, err)
	}
	known(t, name+": list", tr.List(ctx, io.Discard, replay.ListOptions{AllCalls: true, To: last, JSON: true}))
	if tr.HasRefs() {
		known(t, name+": references", tr.ListRefs(ctx, io.Discard, replay.RefListOptions{To: last}))
		known(t, name+": references", tr.ListRefs(ctx, io.Discard, replay.RefListOptions{To: last, JSON: true}))
	}
	known(t, name+": find", tr.EachFound(ctx, []byte{'A'}, replay.FindOptions{}, func(f *replay.Found) error { f.Append(nil, replay.NoClock, time.Time{}); return nil }))
	_, err = tr.Lives(ctx)
	known(t, name+": lives", err)
	for range rd.Changes(0) {
	}
	for _, n := range []format.Step{tr.First(), tr.First() + (last-tr.First())/2, last} {
		v, err := tr.At(n)
		if err != nil {
			known(t, fmt.Sprintf("%s: step %d", name, n), err)
			continue
		}
		for _, p := range v.Processes() {
			look(t, name, tr, v, p)
		}
		_, err = tr.StepAt(time.Duration(n) * 10_000)
		known(t, name+": time", err)
	}
	// Whether there is such a process is not of interest here.
	if d, err := tr.Compare(ctx, 0, last, 0, nil); err == nil {
		if err := d.Write(io.Discard, replay.NoClock, time.Time{}); err != nil {
			t.Errorf("%s: difference: %v", name, err)
		}
	}
	_, err = tr.History(ctx, addr.Reach(replaytest.Heap, 16), 0)
	known(t, name+": history", err)
}

// redactAll takes everything out of a log, or only names: what is made of it is whole,
// and has nothing else.
func redactAll(t testing.TB, name string, rd *format.Reader, log []byte) {
	t.Helper()
	keep := ""
	if len(log)%2 == 0 {
		keep = "calls,data,pages,registers,system"
	}
	p, err := redact.Keeping(keep)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = redact.Copy(context.Background(), rd, p, make([]byte, redact.KeySize), &out)
	known(t, name+": redact", err)
	if err != nil {
		return
	}
	r := bytes.NewReader(out.Bytes())
	_, err = format.Verify(r, r.Size(), nil, nil)
	known(t, name+": verify what redact has made", err)
	proof, err := redact.Count(r, r.Size(), nil, p)
	known(t, name+": read back what redact has made", err)
	if err == nil && proof.Total > 0 {
		t.Errorf("%s: redact has left %v", name, proof.Broken)
	}
	_, err = redact.Count(bytes.NewReader(log), int64(len(log)), nil, p)
	known(t, name+": count", err)
}

// look asks all that can be asked of a process.
func look(t testing.TB, name string, tr *replay.Trace, v *replay.View, p *replay.Process) {
	t.Helper()
	_, err := tr.AllRegisters(v.Step, p.Threads)
	known(t, name+": registers", err)
	s, err := p.Space()
	if err != nil {
		return
	}
	if err := p.WriteMaps(io.Discard, false); err != nil {
		t.Errorf("%s: maps: %v", name, err)
	}
	some := 0
	for m := range s.Mappings() {
		if some++; some > 20 {
			break
		}
		_, err := s.WriteMem(io.Discard, addr.Reach(m.Start, min(m.Len(), 1<<16)), false)
		known(t, name+": memory", err)
	}
}

// known says that an error is one that tells what is wrong.
func known(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, e := range []error{format.ErrFormat, format.ErrVersion, format.ErrTruncated, format.ErrCorrupt, format.ErrLimit,
		replay.ErrUnknown, replay.ErrUnmapped, replay.ErrNoProcess, replay.ErrEmpty, replay.ErrTooMany} {
		if errors.Is(err, e) {
			return
		}
	}
	t.Errorf("%s: error without a cause: %v", what, err)
}

// TestMutants reads mutants for some seconds, or as long as MEMTRACE_MUTATE says.
// A mutant that fails is kept in $MEMTRACE_MUTANTS, if that is set.
func TestMutants(t *testing.T) {
	limit := 3 * time.Second
	if testing.Short() {
		limit = time.Second
	}
	seed := uint64(1)
	if s := os.Getenv("MEMTRACE_MUTATE"); s != "" {
		var err error
		if limit, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		seed = uint64(time.Now().UnixNano())
	}
	ms := mutators(t)
	n := 0
	for end := time.Now().Add(limit); time.Now().Before(end) || n < 20; n++ {
		log := ms[n%len(ms)].Mutant(rand.New(rand.NewPCG(seed, uint64(n))))
		failed := t.Failed()
		tryAll(t, fmt.Sprintf("mutant %d of seed %d", n, seed), log)
		if dir := os.Getenv("MEMTRACE_MUTANTS"); dir != "" && t.Failed() && !failed {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d-%d.mtl", seed, n)), log, 0o600); err != nil {
				t.Fatal(err)
			}
			if n > 1e6 {
				break
			}
		}
		if n%64 == 0 {
			runtime.GC()
		}
	}
	t.Logf("%d mutants", n)
}

// FuzzMutants lets the fuzzer choose which.
func FuzzMutants(f *testing.F) {
	ms := mutators(f)
	for i := range ms {
		f.Add(uint8(i), uint64(i), uint64(7))
	}
	f.Fuzz(func(t *testing.T, which uint8, a, b uint64) {
		tryAll(t, "mutant", ms[int(which)%len(ms)].Mutant(rand.New(rand.NewPCG(a, b))))
	})
}

// TestHostileLogs reads logs that once did harm.
func TestHostileLogs(t *testing.T) {
	names, err := filepath.Glob("testdata/hostile/*.mtl")
	if err != nil || len(names) == 0 {
		t.Fatalf("no logs: %v", err)
	}
	for _, name := range names {
		log, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tryAll(t, filepath.Base(name), log)
	}
}
