package format

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"memtrace/format/addr"
)

// mustVerify fails the test when a log has anything wrong.
func mustVerify(t testing.TB, b []byte) *Info {
	t.Helper()
	info, err := Verify(bytes.NewReader(b), int64(len(b)), nil, func(err error) { t.Errorf("verify: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestVerify(t *testing.T) {
	mustVerify(t, writeLog(t, everything(), nil, 1))
	mustVerify(t, writeLog(t, nil, nil, 0))
	for seed := range uint64(4) {
		evs := randomEvents(seed, 150)
		b := writeLog(t, evs, &WriterOptions{GroupSteps: 3, epoch: 11}, 2)
		info := mustVerify(t, b)
		if int(info.Steps) != len(evs) || info.Patches == 0 || info.Keyframes == 0 {
			t.Errorf("%+v", info)
		}
	}
}

// TestVerifyFlips flips one bit of a log: nothing goes unnoticed.
func TestVerifyFlips(t *testing.T) {
	b := writeLog(t, randomEvents(3, 40), &WriterOptions{GroupSteps: 9, epoch: 11}, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := 0; i < len(b); i += 1 + rng.IntN(1+len(b)/120) {
		c := bytes.Clone(b)
		c[i] ^= 1 << rng.IntN(8)
		if _, err := Verify(bytes.NewReader(c), int64(len(c)), nil, nil); err == nil {
			t.Fatalf("flipped bit of byte %d went unnoticed", i)
		}
	}
}

// TestRecover cuts a long log, with many INDEX chunks, in random places.
func TestRecover(t *testing.T) {
	evs := randomEvents(5, 400)
	b := writeLog(t, evs, &WriterOptions{GroupSteps: 1, epoch: 100}, 0)
	whole := openLog(t, b)
	if len(whole.x.blocks) < 3 {
		t.Fatalf("%d INDEX chunks", len(whole.x.blocks))
	}
	want := collect(t, whole, 0)
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range 12 {
		n := headerFixed + 400 + rng.IntN(len(b)-headerFixed-400)
		cut := bytes.Clone(b[:n])
		switch i % 4 {
		case 1: // what was not written reads as zeros
			clear(cut[n-min(n/8, 5000):])
		case 2: // or as something else
			for k := n - min(n/8, 300); k < n; k++ {
				cut[k] = byte(rng.Uint32())
			}
		}
		r, err := NewReader(bytes.NewReader(cut), int64(n), nil)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		walked, err := openHeader(bytes.NewReader(cut), int64(n), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := walked.newScan()
		if err := s.run(); err != nil && !damage(err) {
			t.Fatal(err)
		}
		if s.commit.steps != r.Steps() || s.commit.off != r.Info().Size {
			t.Fatalf("cut at %d: %d steps by the index, %d by walking", n, r.Steps(), s.commit.steps)
		}
		var out bytes.Buffer
		info, err := Recover(bytes.NewReader(cut), int64(n), nil, &out)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if !info.Truncated || info.Steps != r.Steps() || info.Size != int64(out.Len()) {
			t.Fatalf("cut at %d: %+v", n, info)
		}
		mustVerify(t, out.Bytes())
		rec := openLog(t, out.Bytes())
		if i%6 == 0 {
			if diff := cmp.Diff(want[:info.Steps], collect(t, rec, 0), cmpEvents...); diff != "" {
				t.Fatalf("cut at %d: %s", n, diff)
			}
		}
	}
	var out bytes.Buffer
	info, err := Recover(bytes.NewReader(b), int64(len(b)), nil, &out)
	if err != nil || info.Truncated || !bytes.Equal(out.Bytes(), b) {
		t.Errorf("a whole log is changed by recovery: %v %+v", err, info)
	}
}

// fullDisk is a file with room for so many bytes.
type fullDisk struct {
	*os.File
	room int
}

func (f *fullDisk) Write(b []byte) (int, error) {
	if len(b) > f.room {
		n, _ := f.File.Write(b[:f.room])
		f.room = 0
		return n, syscall.ENOSPC
	}
	f.room -= len(b)
	return f.File.Write(b)
}

func TestFullDisk(t *testing.T) {
	evs := randomEvents(6, 300)
	total := len(writeLog(t, evs, &WriterOptions{GroupSteps: 5, epoch: 50}, 0))
	for room := 1000; room < total; room += total / 8 {
		name := filepath.Join(t.TempDir(), "log")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w, err := NewWriter(&fullDisk{f, room}, testHeader(), &WriterOptions{GroupSteps: 5, epoch: 50})
		if err != nil {
			t.Fatal(err)
		}
		for i := range evs {
			if _, err = w.Event(&evs[i]); err != nil {
				break
			}
		}
		if cerr := w.Close(""); !errors.Is(cerr, syscall.ENOSPC) || err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("room %d: %v, %v", room, err, cerr)
		}
		if _, err := w.Event(&evs[0]); err == nil {
			t.Fatal("event after Close")
		}
		f.Close()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r := openLog(t, b)
		if !r.Truncated() || r.Info().Size != int64(len(b)) || r.Steps() == 0 && room > 3000 {
			t.Fatalf("room %d: %d bytes, %+v", room, len(b), r.Info())
		}
		if n := len(collect(t, r, 0)); n != int(r.Steps()) {
			t.Fatalf("%d events of %d", n, r.Steps())
		}
	}
}

// brokenPipe fails always.
type brokenPipe struct{ n int }

func (p *brokenPipe) Write(b []byte) (int, error) {
	if p.n--; p.n < 0 {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

func TestBrokenPipe(t *testing.T) {
	w, err := NewWriter(&brokenPipe{3}, testHeader(), &WriterOptions{GroupSteps: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		if i > 60000 {
			t.Fatal("the error does not come through")
		}
		if _, err := w.Event(&Event{Record: &Lost{}}); err != nil {
			if !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := w.Close(""); !errors.Is(err, syscall.EPIPE) {
		t.Fatal(err)
	}
}

// TestTimer waits for the timer to put events into the file.
func TestTimer(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewWriter(f, testHeader(), &WriterOptions{FlushInterval: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	evs := everything()
	for i := range evs {
		if _, err := w.Event(&evs[i]); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			time.Sleep(3 * time.Millisecond)
		}
	}
	wait := func(steps int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
			st, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewReader(f, st.Size(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if int(r.Steps()) == steps {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d steps in the file, want %d", r.Steps(), steps)
			}
		}
	}
	wait(len(evs))
	// A change that waits for its event is not torn from it.
	if err := w.Change(&MMNew{MM: 50}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	wait(len(evs))
	if _, err := w.Event(&Event{Record: &Lost{}}); err != nil {
		t.Fatal(err)
	}
	wait(len(evs) + 1)
	if err := w.Close("x"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, b)
}

func TestPatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 2000 {
		old := make([]byte, addr.PageSize)
		for i := range old {
			old[i] = byte(rng.Uint32())
		}
		p := bytes.Clone(old)
		for range rng.IntN(40) {
			at, n := rng.IntN(addr.PageSize), rng.IntN(30)
			for i := at; i < min(at+n, addr.PageSize); i++ {
				p[i] = byte(rng.Uint32())
			}
		}
		patch, ok := appendPatch(nil, old, p, MaxPatch)
		if !ok {
			t.Fatal("patch too long")
		}
		got := [addr.PageSize]byte(old)
		if err := applyPatch(&got, patch); err != nil || !bytes.Equal(got[:], p) {
			t.Fatalf("patch does not give the page: %v", err)
		}
	}
	if _, ok := appendPatch(nil, page(0), bytes.Repeat([]byte{77, 1}, addr.PageSize/2), MaxPatch); ok {
		t.Error("patch of a whole page")
	}
}

// TestPatchChain rewrites a page so often that chains must end.
func TestPatchChain(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	p := page(1)
	evs := []Event{{Record: &Attach{}, Changes: []Change{&MMNew{MM: 1}}}}
	want := [][]byte{nil}
	for range 1000 {
		p = bytes.Clone(p)
		for range 1 + rng.IntN(20) {
			p[rng.IntN(len(p))]++
		}
		evs = append(evs, Event{Record: &Snapshot{MM: 1}, Changes: []Change{&Pages{MM: 1, N: 1, What: PageData, Data: p}}})
		want = append(want, p)
	}
	b := writeLog(t, evs, nil, 10)
	info := mustVerify(t, b)
	if info.Patches < 900 {
		t.Errorf("%d patches", info.Patches)
	}
	r := openLog(t, b)
	for i := 1; i < len(evs); i += 13 {
		s, err := r.StateAt(Step(i))
		if err != nil {
			t.Fatal(err)
		}
		info, _ := s.MMs[1].Page(0)
		var got [addr.PageSize]byte
		if err := r.Page(info.Ref, &got); err != nil || !bytes.Equal(got[:], want[i]) {
			t.Fatalf("step %d: %v", i, err)
		}
		if info.AsOf != Step(i) || info.Changed != Step(i) {
			t.Fatalf("%+v", info)
		}
	}
}
