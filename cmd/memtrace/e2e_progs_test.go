//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

const progsDir = "../../testdata/progs"

// program is a C file of testdata/progs. Comments of one line at its top say how
// it is built ("build: x86_64 i386 static", the first two if there is none), with
// which arguments it is run ("args: A B | C D" are two runs), whether other
// tests would disturb it ("alone: why"), and for which builds it is run with the
// first arguments where not all is ("quick: x86_64 i386", the first build if there is
// none, "none" for none).
type program struct {
	name   string
	builds []string
	runs   [][]string
	quick  []string // of builds
	alone  bool
}

var directive = regexp.MustCompile(`^/\* (build|args|alone|quick): (.*) \*/$`)

func programs(t *testing.T) []program {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(progsDir, "*.c"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no programs in %s: %v", progsDir, err)
	}
	var ps []program
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		p := program{name: strings.TrimSuffix(filepath.Base(f), ".c"), builds: []string{"x86_64", "i386"}, runs: [][]string{nil}}
		for line := range strings.Lines(string(text)) {
			m := directive.FindStringSubmatch(strings.TrimSpace(line))
			if m == nil {
				break
			}
			switch m[1] {
			case "build":
				p.builds = strings.Fields(m[2])
			case "args":
				p.runs = nil
				for _, r := range strings.Split(m[2], "|") {
					p.runs = append(p.runs, strings.Fields(r))
				}
			case "alone":
				p.alone = true
			case "quick":
				p.quick = strings.Fields(m[2])
			}
		}
		if p.quick == nil {
			p.quick = p.builds[:1]
		}
		if !slices.Equal(p.builds, []string{"none"}) {
			ps = append(ps, p)
		}
	}
	return ps
}

var built sync.Map // "name-build" -> func() (string, error)

// compile builds a program of testdata/progs once, or skips the test.
func compile(t *testing.T, name, build string) string {
	t.Helper()
	if prebuilt != "" {
		return filepath.Join(prebuilt, name+"-"+build)
	}
	tool(t, "gcc")
	var flags []string
	switch build {
	case "i386":
		flags = []string{"-m32"}
	case "static":
		flags = []string{"-static"}
	}
	once, _ := built.LoadOrStore(name+"-"+build, sync.OnceValues(func() (string, error) {
		out := filepath.Join(scratch(), name+"-"+build)
		args := append([]string{"-O1", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread", "-o", out}, flags...)
		if text, err := exec.Command("gcc", append(args, filepath.Join(progsDir, name+".c"))...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, text)
		}
		return out, nil
	}))
	if build == "i386" {
		require(t, "m32", m32())
	}
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("building %s for %s: %v", name, build, err)
	}
	return path
}

// m32 says why 32-bit programs cannot be built and run here.
var m32 = sync.OnceValue(func() error {
	if prebuilt != "" {
		return nil
	}
	src, out := filepath.Join(scratch(), "m32.c"), filepath.Join(scratch(), "m32")
	if err := os.WriteFile(src, []byte("#include <stdio.h>\nint main(void) { return 0; }\n"), 0o644); err != nil {
		return err
	}
	if text, err := exec.Command("gcc", "-m32", "-o", out, src).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return exec.Command(out).Run()
})

// TestPrograms runs every program of testdata/progs, which checks itself, without
// and with memtrace, and compares the log at every mark with what the program
// wrote down of its own address space there.
func TestPrograms(t *testing.T) {
	for _, p := range programs(t) {
		for _, build := range p.builds {
			for i, args := range p.runs {
				name := strings.Join(append([]string{p.name, build}, args...), "-")
				t.Run(name, func(t *testing.T) {
					if i > 0 || !slices.Contains(p.quick, build) {
						long(t)
					}
					if !p.alone {
						t.Parallel()
					}
					require(t, "ptrace", tracing())
					env := []string(nil)
					argv := append([]string{compile(t, p.name, build)}, args...)
					if p.name == "exec" && build != "i386" && m32() == nil {
						env = append(env, "EXEC_OTHER="+compile(t, p.name, "i386"))
					}
					flags := []string{"-q", "--check"}
					switch p.name {
					case "content":
						flags = append(flags, "--snapshot", "syscall=write")
					case "known":
						flags = append(flags, "--snapshot", "interval=1ms,syscall=write")
					case "shape":
						flags = append(flags, "--snapshot", "interval=2ms,syscall=write")
					case "calls":
						flags = append(flags, "--snapshot", "syscall=getppid")
					case "churn":
						flags = append(flags, "--snapshot", "step")
					case "between":
						flags = append(flags, "--snapshot", "syscall=write,syscall=getppid,interval=5ms")
					}
					pl := newPlace(t)
					pl.older = p.name == "calls" // it has few snapshots
					_, say := pl.compare(t, patience, flags, env, argv...)
					if say != "" {
						t.Logf("memtrace said: %s", say)
					}
					checkMarks(t, pl)
				})
			}
		}
	}
}

// The call that marks a step: write(-1, markMagic+k, 0).
const (
	markMagic = 0x4d540000
	markBare  = 99 // this one leaves no file
)

// markOf says whether e is a mark, and which.
func markOf(e *format.Event) (k uint64, ok bool) {
	c, ok := e.Record.(*format.Syscall)
	if !ok {
		return 0, false
	}
	nr, _ := c.Arch.Number("write")
	if c.Nr != nr || int32(c.Args[0]) != -1 || c.Args[1]&^0xffff != markMagic || c.Args[2] != 0 {
		return 0, false
	}
	return c.Args[1] & 0xffff, true
}

// checkMarks replays the log from end to end and compares it at every mark with
// the files that the program left there.
func checkMarks(t *testing.T, p *place) {
	t.Helper()
	left := map[string]bool{}
	files, err := os.ReadDir(p.marks())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".maps") || strings.HasSuffix(f.Name(), ".mem") {
			left[f.Name()] = true
		}
	}
	f, err := os.Open(p.log())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(f, st.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Truncated() {
		t.Error("the log has no end")
	}
	wrong, marks := 0, 0
	for e, state := range applied(t, r) {
		k, ok := markOf(e)
		if !ok {
			continue
		}
		th := state.Threads[e.Thread]
		if th == nil {
			t.Fatalf("step %d: mark %d by thread %d, which is not in the state", e.Step, k, e.Thread)
		}
		name := fmt.Sprintf("%d.%d.maps", th.TGID, k)
		want, err := os.ReadFile(filepath.Join(p.marks(), name))
		if errors.Is(err, os.ErrNotExist) {
			if k != markBare {
				t.Errorf("step %d: mark %d of pid %d has no file", e.Step, k, th.TGID)
			}
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		want = withoutInside(want)
		marks++
		delete(left, name)
		mm := state.MMs[th.MM]
		if mm == nil {
			t.Fatalf("step %d: thread %d has no address space", e.Step, e.Thread)
		}
		checkMem(t, p, r, e.Step, th.TGID, k, left)
		if got := mm.VMAs.AppendMaps(nil); !bytes.Equal(got, want) {
			if wrong++; wrong <= 3 {
				t.Errorf("mark %d of pid %d, step %d: -%s's own +the log's\n%s", k, th.TGID, e.Step, filepath.Base(p.dir), lineDiff(want, got))
			}
		}
	}
	if wrong > 3 {
		t.Errorf("%d of %d marks differ", wrong, marks)
	}
	for name := range left {
		t.Errorf("the mark of %s is not in the log", name)
	}
	t.Logf("%d events, %d marks, %d bytes", r.Steps(), marks, st.Size())
}

// spaceAt is the address space of a process at a step.
func spaceAt(t *testing.T, tr *replay.Trace, step format.Step, pid uint32) *replay.AddressSpace {
	t.Helper()
	view, err := tr.At(step)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := view.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	space, err := proc.Space()
	if err != nil {
		t.Fatal(err)
	}
	return space
}

// checkMem compares the memory that a program saved at a mark with the log's.
func checkMem(t *testing.T, p *place, r *format.Reader, step format.Step, pid uint32, k uint64, left map[string]bool) {
	t.Helper()
	prefix := fmt.Sprintf("%d.%d.", pid, k)
	for name := range left {
		at, ok := strings.CutSuffix(strings.TrimPrefix(name, prefix), ".mem")
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		delete(left, name)
		if p.maps {
			continue
		}
		a, err := strconv.ParseUint(at, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(p.marks(), name))
		if err != nil {
			t.Fatal(err)
		}
		space := spaceAt(t, replay.New(r), step, pid)
		got := make([]byte, len(want))
		n, asOf, err := space.ReadMem(got, addr.Addr(a))
		if err != nil || n != len(want) {
			t.Errorf("mark %d of pid %d, step %d: %d of %d bytes at %#x: %v", k, pid, step, n, len(want), a, err)
			continue
		}
		if asOf != step && !p.older {
			t.Errorf("mark %d of pid %d, step %d: memory at %#x is as of step %d", k, pid, step, a, asOf)
		}
		if !bytes.Equal(got, want) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			t.Errorf("mark %d of pid %d, step %d: byte %#x (page %d of what was saved) is %#x, not %#x; as of step %d",
				k, pid, step, a+uint64(i), i/addr.PageSize, got[i], want[i], asOf)
		}
	}
}
