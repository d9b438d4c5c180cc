package replay_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/recordtest"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
	"memtrace/replay/symbol"
)

// program builds testdata/sites.c, and tells where its calls return to.
type program struct {
	exe     string
	module  format.Module
	returns map[string]uint64 // function -> offset in the file behind its first call
}

func sites(t *testing.T) program {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	recordtest.Require(t, "gcc", err)
	objdump, err := exec.LookPath("objdump")
	recordtest.Require(t, "objdump", err)
	p := program{exe: filepath.Join(t.TempDir(), "prog"), returns: map[string]uint64{}}
	src, err := filepath.Abs("testdata/sites.c")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(gcc, "-g", "-O1", "-fno-optimize-sibling-calls", "-Wl,--build-id=sha1", "-o", p.exe, src).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(p.exe)
	if err != nil {
		t.Fatal(err)
	}
	m, err := symbol.OpenImage(f, f)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	id, err := hex.DecodeString(m.BuildID())
	if err != nil {
		t.Fatal(err)
	}
	p.module = format.Module{Class: format.ModuleELF, Path: p.exe, BuildID: string(id), TextAddr: 0x1000, TextOff: 0x1000}
	out, err := exec.Command(objdump, "-d", p.exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	label, line := regexp.MustCompile(`^[0-9a-f]+ <(\w+)>:`), regexp.MustCompile(`^ *([0-9a-f]+):`)
	in, called := "", false
	for l := range strings.Lines(string(out)) {
		if x := label.FindStringSubmatch(l); x != nil {
			in, called = x[1], false
		}
		if x := line.FindStringSubmatch(l); x != nil {
			if called && p.returns[in] == 0 {
				if p.returns[in], err = strconv.ParseUint(x[1], 16, 64); err != nil {
					t.Fatal(err)
				}
			}
			called = strings.Contains(l, "call ")
		}
	}
	if p.returns["outer"] == 0 || p.returns["main"] == 0 {
		t.Fatalf("no calls in\n%s", out)
	}
	return p
}

// stackLog is a log of calls with stacks: two through the program, one through code made
// at run time, one that is cut, and one without.
func stackLog(t *testing.T, p program) *replay.Trace {
	b := NewStacks(t)
	prog := b.Module(p.module)
	jit := b.Module(format.Module{Class: format.ModuleAnon, MM: 1})
	gone := b.Module(format.Module{Class: format.ModuleELF, Path: "/nowhere/lib\x1b.so", BuildID: "12345678901234567890"})
	b.Event(1, &format.Exec{Path: p.exe}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Text, 4, 5, p.exe))
	outer, main := format.RawFrame{Module: prog, Offset: p.returns["outer"]}, format.RawFrame{Module: prog, Offset: p.returns["main"]}
	b.Through(format.StackComplete, outer, main)
	b.Call(1, "getpid", 100, nil)
	b.Through(format.StackComplete, main)
	b.Call(1, "getuid", 0, nil)
	b.Through(format.StackNoRule, format.RawFrame{Module: jit, Offset: 0x7f0000001010}, format.RawFrame{Module: jit, Offset: 0x7f0000009000, How: format.FrameFP}, main)
	b.Call(1, "getgid", 0, nil)
	b.Through(format.StackDepth, format.RawFrame{Module: gone, Offset: 0x1234, Signal: true}, format.RawFrame{Offset: 0xdead})
	b.Call(1, "getppid", 1, nil)
	b.Stack = 0
	b.Call(1, "geteuid", 0, nil)
	if err := b.W.Text(&format.Text{Name: "perf.map", MM: 1, Step: 4, Data: []byte("7f0000001000 100 py::run:/x.py\n")}); err != nil {
		t.Fatal(err)
	}
	b.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := replay.New(Open(t, b.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func listed(t *testing.T, tr *replay.Trace, o replay.ListOptions) string {
	t.Helper()
	var out bytes.Buffer
	o.To, _ = tr.Last()
	if err := tr.List(context.Background(), &out, o); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestStackLines lists calls with stacks, as strace has them and with lines.
func TestStackLines(t *testing.T) {
	p := sites(t)
	tr := stackLog(t, p)
	src, err := filepath.Abs("testdata/sites.c")
	if err != nil {
		t.Fatal(err)
	}
	calls := arch.Set{}
	for _, name := range []string{"getpid", "getgid", "getppid", "geteuid"} {
		set, err := arch.ParseSet(name)
		if err != nil {
			t.Fatal(err)
		}
		calls = calls.Union(set)
	}
	hex := func(s string, n uint64) string { return strings.ReplaceAll(s, "OFF", strconv.FormatUint(n, 16)) }
	o, m := p.returns["outer"], p.returns["main"]
	fn := func(name string, at uint64) string { return strconv.FormatUint(at-start(t, p, name), 16) }
	short := "getpid() = 100\n" +
		hex(" > "+p.exe+"(outer+0x"+fn("outer", o)+") [0xOFF]\n", o) +
		hex(" > "+p.exe+"(main+0x"+fn("main", m)+") [0xOFF]\n", m) +
		"getgid() = 0\n > [anon](py::run:/x.py+0x10) [0x7f0000001010]\n ? [anon]() [0x7f0000009000]\n" +
		hex(" > "+p.exe+"(main+0x"+fn("main", m)+") [0xOFF]\n", m) +
		" > ... cut: nothing says where the caller is\n" +
		"getppid() = 1\n > /nowhere/lib\\033.so() [0x1234]\n > [unmapped]() [0xdead]\n > ... cut: there are more frames than were to be taken\n" +
		"geteuid() = 0\n"
	got := listed(t, tr, replay.ListOptions{PrintOptions: replay.PrintOptions{Stacks: replay.StackNames}, Set: calls})
	got, _, _ = strings.Cut(got, "+++")
	if got != short {
		t.Errorf("got\n%s\nwant\n%s", got, short)
	}
	long := "getpid() = 100\n" +
		" > " + p.exe + "(deep) (inlined) " + src + ":6\n" +
		" > " + p.exe + "(middle) (inlined) " + src + ":11\n" +
		hex(" > "+p.exe+"(outer+0x"+fn("outer", o)+") [0xOFF] "+src+":16\n", o) +
		hex(" > "+p.exe+"(main+0x"+fn("main", m)+") [0xOFF] "+src+":22\n", m)
	set, err := arch.ParseSet("getpid")
	if err != nil {
		t.Fatal(err)
	}
	got = listed(t, tr, replay.ListOptions{PrintOptions: replay.PrintOptions{Stacks: replay.StackLines}, Set: set})
	got, _, _ = strings.Cut(got, "+++")
	if got != long {
		t.Errorf("got\n%s\nwant\n%s", got, long)
	}
}

// start is where a function begins in the file.
func start(t *testing.T, p program, name string) uint64 {
	t.Helper()
	f, err := os.Open(p.exe)
	if err != nil {
		t.Fatal(err)
	}
	m, err := symbol.OpenImage(f, f)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s, ok := m.Lookup(name)
	if !ok {
		t.Fatalf("no function %s", name)
	}
	return s.Value
}

func TestStackJSON(t *testing.T) {
	tr := stackLog(t, sites(t))
	type frame struct {
		Module, BuildID, Offset, Function, File, How string
		Line                                         int
		Inlined, Signal                              bool
	}
	var all [][]frame
	for l := range strings.Lines(listed(t, tr, replay.ListOptions{PrintOptions: replay.PrintOptions{Stacks: replay.StackLines}, JSON: true, AllCalls: true})) {
		var e struct {
			Stack []frame
			End   string `json:"stack_end"`
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		if len(e.Stack) > 0 {
			all = append(all, e.Stack)
			if e.End == "" {
				t.Errorf("no end: %s", l)
			}
		}
	}
	if len(all) != 4 {
		t.Fatalf("%d stacks", len(all))
	}
	if f := all[0]; len(f) != 4 || f[0].Function != "deep" || !f[0].Inlined || f[0].Line != 6 || f[2].Function != "outer" || f[2].Inlined || f[3].Line != 22 {
		t.Errorf("%+v", f)
	}
	if f := all[2]; len(f) != 3 || f[0].Function != "py::run:/x.py" || f[1].How != "fp" || f[1].Function != "" {
		t.Errorf("%+v", f)
	}
	if f := all[3]; len(f) != 2 || !f[0].Signal || f[1].Offset != "0xdead" {
		t.Errorf("%+v", f)
	}
}

// TestSite chooses events by what their stacks go through.
func TestSite(t *testing.T) {
	p := sites(t)
	tr := stackLog(t, p)
	all := "getpid getuid getgid"
	for pattern, want := range map[string]string{
		"main": all, "outer": "getpid", "middle": "getpid", "d?ep": "getpid", "*er": "getpid", "nothing": "",
		"prog": all, p.exe: all, "py::*": "getgid", "sites.c:11": "getpid", "sites.c:22": all, "sites.c:*": all, "sites.c:1": "",
		"lib*.so": "getppid", "*": all + " getppid",
	} {
		site, err := replay.ParseSite(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for l := range strings.Lines(listed(t, tr, replay.ListOptions{AllCalls: true, Site: site})) {
			name, _, _ := strings.Cut(l, "(")
			names = append(names, name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", pattern, got, want)
		}
	}
	if _, err := replay.ParseSite(""); err == nil {
		t.Error("an empty pattern is one")
	}
}
