package format

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the logs of testdata/traces that do not exist yet")

const traces = "../testdata/traces"

// TestTraces reads the logs that earlier versions have written.
func TestTraces(t *testing.T) {
	if *update {
		write := func(name string, log []byte) {
			name = filepath.Join(traces, "v1", name)
			if _, err := os.Stat(name); err == nil {
				return
			}
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, log, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write("everything.mtl", writeLog(t, everything(), nil, 4))
		// Keyframes and patches.
		keyed := writeLog(t, randomEvents(11, 40), &WriterOptions{GroupSteps: 3, epoch: 10}, 0)
		write("keyframes.mtl", keyed)
		// With auxiliary vectors and registers of other threads; then with their
		// extended state.
		write("registers.mtl", writeLog(t, everything(), nil, 4))
		write("xstate.mtl", writeLog(t, everything(), nil, 4))
		write("confirm.mtl", writeLog(t, confirmed(), nil, 0))
		write("written.mtl", writeLog(t, randomEvents(12, 40), &WriterOptions{GroupSteps: 3, epoch: 10}, 0))
	}
	names, err := filepath.Glob(filepath.Join(traces, "v*", "*.mtl"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no logs in %s: %v", traces, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		mustVerify(t, b)
		if filepath.Base(name) != "everything.mtl" {
			continue
		}
		r := openLog(t, b)
		want := expected()
		for i := range want {
			// What was added to the vocabulary since reads as nothing.
			switch x := want[i].Record.(type) {
			case *Exec:
				x.Auxv, x.FDs = nil, nil
			case *Attach:
				*x = Attach{PID: x.PID}
			}
			want[i].Changes = slices.DeleteFunc(want[i].Changes, func(c Change) bool {
				switch c.(type) {
				case *RegsSet, *XStateSet:
					return true
				}
				return false
			})
		}
		if diff := cmp.Diff(want, collect(t, r, 0), cmpEvents...); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		s, err := r.StateAt(r.Steps() - 1)
		if err != nil {
			t.Fatal(err)
		}
		now := openLog(t, writeLog(t, everything(), nil, 4))
		w, err := now.StateAt(now.Steps() - 1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stateText(t, w), stateText(t, s)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if h := testHeader(); !bytes.Equal(r.Header().Salt[:], h.Salt[:]) {
			t.Errorf("%s: %+v", name, r.Header())
		}
	}
}
