package format

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the example of docs/format.md, and logs of testdata/traces that do not exist yet")

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
		stacks, _, _, _ := stackLog(t, rand.New(rand.NewPCG(3, 1)), 60, &WriterOptions{GroupSteps: 9, epoch: 20})
		write("stacks.mtl", stacks)
		refs, _ := writeRefs(t, randomRefs(13, 60), &WriterOptions{GroupSteps: 4, epoch: 9, FlushInterval: -1})
		write("refs.mtl", refs)
		write("packed.mtl", packedLog(t, writeLog(t, everything(), nil, 4)))
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
		r := openLog(t, b)
		if filepath.Base(name) == "packed.mtl" {
			files, err := r.Files()
			if err != nil || len(files) != 3 {
				t.Fatalf("%s: %d files, %v", name, len(files), err)
			}
			p := make([]byte, 9)
			if _, err := r.ReadFile(&files[2], p, 0); err != nil || string(p) != "some file" {
				t.Errorf("%s: the last file is %q, %v", name, p, err)
			}
		}
		if filepath.Base(name) != "everything.mtl" {
			continue
		}
		want := expected()
		for i := range want {
			// What was added to the vocabulary since reads as nothing.
			switch x := want[i].Record.(type) {
			case *Exec:
				x.Auxv, x.FDs, x.Called = nil, nil, ""
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
