package symbol

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"memtrace/record/recordtest"
)

func image(t testing.TB, name string) *Image {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := OpenImage(f, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// tool runs a program that tests compare with.
func tool(t testing.TB, stdin, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	recordtest.Require(t, name, err)
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// build compiles a program of testdata.
func build(t testing.TB, compiler, src, out string, flags ...string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), out)
	abs, err := filepath.Abs(filepath.Join("testdata", src))
	if err != nil {
		t.Fatal(err)
	}
	tool(t, "", compiler, append([]string{"-o", exe, abs}, flags...)...)
	return exe
}

// variants are how a C++ program is built in tests.
var variants = map[string][]string{
	"dwarf5": {"-O2", "-g", "-gdwarf-5", "-ffunction-sections", "-Wl,--gc-sections"},
	"dwarf4": {"-O2", "-g", "-gdwarf-4", "-gz=zlib", "-no-pie"},
	"O0":     {"-O0", "-g"},
	"static": {"-O1", "-g", "-static"},
}

// instructions are the addresses of all instructions of a file.
func instructions(t testing.TB, exe string) []uint64 {
	var list []uint64
	line := regexp.MustCompile(`(?m)^ *([0-9a-f]+):\t`)
	for _, m := range line.FindAllStringSubmatch(tool(t, "", "objdump", "-d", "--no-show-raw-insn", exe), -1) {
		a, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

// addr2line is what binutils say of addresses.
func addr2line(t testing.TB, exe string, addrs []uint64) [][]Place {
	var in strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	var all [][]Place
	lines := strings.Split(tool(t, in.String(), "addr2line", "-a", "-f", "-i", "-e", exe), "\n")
	for i := 0; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "0x") {
			all = append(all, nil)
			continue
		}
		if i+1 >= len(lines) {
			break
		}
		p := Place{Function: lines[i]}
		i++
		where, _, _ := strings.Cut(lines[i], " (discriminator")
		file, line, _ := strings.Cut(where, ":")
		if n, err := strconv.Atoi(line); err == nil && n > 0 {
			p.Line, p.File = n, filepath.Clean(file)
		}
		if last := &all[len(all)-1]; len(*last) > 0 {
			(*last)[len(*last)-1].Inlined = true
		}
		all[len(all)-1] = append(all[len(all)-1], p)
	}
	return all
}

// samePlaces compares what is known of an address with what addr2line says. The name of
// the outermost function may be an alias. Where an inlined function has no name for the
// linker, addr2line calls it by the name of the symbol at the address.
func samePlaces(m *Image, a uint64, got, want []Place) bool {
	return slices.EqualFunc(got, want, func(g, w Place) bool {
		if g.Line != w.Line || filepath.Base(g.File) != filepath.Base(w.File) || g.Inlined != w.Inlined {
			return false
		}
		f, _ := m.Func(a)
		if g.Function == w.Function || w.Inlined && w.Function == f.Name {
			return true
		}
		s, ok := m.Lookup(w.Function)
		return !w.Inlined && (!ok || s.Value == f.Start)
	})
}

// TestAddr2line compares instructions of a program with what addr2line says.
func TestAddr2line(t *testing.T) {
	for name, flags := range variants {
		t.Run(name, func(t *testing.T) {
			exe := build(t, "g++", "inline.cc", name, flags...)
			m := image(t, exe)
			addrs := instructions(t, exe)
			addrs = slices.DeleteFunc(addrs, func(a uint64) bool {
				_, ok := m.Func(a)
				return !ok || name == "static" && len(m.Places(a)) == 0 // padding; libc
			})
			r := rand.New(rand.NewPCG(1, 2))
			r.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
			addrs = addrs[:min(len(addrs), 150)] // addr2line is slow
			want := addr2line(t, exe, addrs)
			if len(want) != len(addrs) {
				t.Fatalf("%d answers of %d", len(want), len(addrs))
			}
			known, inlines, bad := 0, 0, 0
			for i, a := range addrs {
				w := want[i]
				if len(w) == 0 || w[0].Line == 0 {
					continue
				}
				known++
				inlines += len(w) - 1
				if got := m.Places(a); !samePlaces(m, a, got, w) {
					if bad++; bad < 10 {
						t.Errorf("%#x:\n got %v\nwant %v", a, got, w)
					}
				}
			}
			if known < 100 || name != "O0" && inlines < 20 {
				t.Errorf("addr2line knows %d lines and %d inlined functions", known, inlines)
			}
			t.Logf("%d instructions, %d with lines, %d inlined frames, %d differ", len(addrs), known, inlines, bad)
			if err := m.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNM compares all functions of some files with what nm says.
func TestNM(t *testing.T) {
	files := []string{build(t, "g++", "inline.cc", "nm", "-O2", "-g")}
	for _, f := range []string{"/usr/bin/node", "/usr/lib/x86_64-linux-gnu/libc.so.6"} {
		if _, err := os.Stat(f); err == nil {
			files = append(files, f)
		}
	}
	for _, f := range files {
		args := []string{"--defined-only", "-S", f}
		out := tool(t, "", "nm", args...)
		if strings.TrimSpace(out) == "" {
			out = tool(t, "", "nm", append([]string{"-D"}, args...)...)
		}
		m := image(t, f)
		type fn struct {
			size  uint64
			names []string
		}
		funcs := map[uint64]*fn{}
		for line := range strings.Lines(out) {
			w := strings.Fields(line)
			if len(w) != 4 || !strings.ContainsAny(w[2], "tTwWi") {
				continue
			}
			a, err1 := strconv.ParseUint(w[0], 16, 64)
			n, err2 := strconv.ParseUint(w[1], 16, 64)
			if err1 != nil || err2 != nil || n == 0 {
				continue
			}
			name, _, _ := strings.Cut(w[3], "@")
			if funcs[a] == nil {
				funcs[a] = &fn{}
			}
			funcs[a].size = max(funcs[a].size, n)
			funcs[a].names = append(funcs[a].names, name)
		}
		bad := 0
		for a, x := range funcs {
			got, ok := m.Func(a)
			if !ok || got.Start != a || !slices.Contains(x.names, got.Name) {
				if bad++; bad < 10 {
					t.Errorf("%s: %#x is %v; nm says %v", f, a, got, x.names)
				}
			}
			// Its last byte is of it, or of one that lies within it.
			if got, ok := m.Func(a + x.size - 1); !ok || got.Start < a || got.Start >= a+x.size {
				if bad++; bad < 10 {
					t.Errorf("%s: the end of %v at %#x is of %v", f, x.names, a+x.size-1, got)
				}
			}
		}
		if len(funcs) < 5 {
			t.Errorf("%s: nm knows %d functions", f, len(funcs))
		}
		t.Logf("%s: %d functions", f, len(funcs))
	}
}

// TestStubs compares names of the procedure linkage table with those of objdump.
func TestStubs(t *testing.T) {
	label := regexp.MustCompile(`(?m)^([0-9a-f]{16}) <([^>]+)@plt>:$`)
	for name, flags := range map[string][]string{
		"lazy": {"-Wl,-z,lazy"}, "now": {"-Wl,-z,now"}, "cet": {"-fcf-protection=full", "-Wl,-z,ibtplt"}, "nopie": {"-no-pie", "-Wl,-z,lazy"},
	} {
		exe := build(t, "gcc", "stubs.c", name, flags...)
		m := image(t, exe)
		n := 0
		for _, x := range label.FindAllStringSubmatch(tool(t, "", "objdump", "-d", exe), -1) {
			a, err := strconv.ParseUint(x[1], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			n++
			want, _, _ := strings.Cut(x[2], "@")
			if got, ok := m.Func(a + 1); !ok || got.Start != a || got.Name != want+"@plt" {
				t.Errorf("%s: %#x is %v, want %s@plt", name, a, got, want)
			}
		}
		if n < 2 {
			t.Errorf("%s: %d stubs", name, n)
		}
	}
}

// TestWithinSize: what lies behind a function is not of it.
func TestWithinSize(t *testing.T) {
	exe := build(t, "gcc", "sizes.s", "sizes", "-nostdlib", "-static")
	m := image(t, exe)
	for _, c := range []struct {
		symbol string
		off    uint64
		want   string
	}{
		{"sized", 0, "sized"}, {"sized", 3, "sized"}, {"sized", 4, ""}, {"sized", 15, ""},
		{"label", 0, "label"}, {"label", 20, "label"}, // no size: up to the next
		{"outer", 0, "outer"}, {"outer", 8, "inner"}, {"outer", 12, "outer"}, {"outer", 31, "outer"}, {"outer", 32, ""},
		{"_alias", 0, "alias"}, // the plainer of two names
		{"weak_one", 0, "weak_one"}, {"strong_one_with_a_longer_name", 0, "weak_one"},
		{"last", 40, "last"},
	} {
		s, ok := m.Lookup(c.symbol)
		if !ok {
			t.Fatalf("no symbol %s", c.symbol)
		}
		f, ok := m.Func(s.Value + c.off)
		if f.Name != c.want || ok != (c.want != "") {
			t.Errorf("%s+%d: %q, want %q", c.symbol, c.off, f.Name, c.want)
		}
	}
	if _, ok := m.Lookup("nothing"); ok {
		t.Error("found what is not there")
	}
	if _, ok := m.Func(1); ok {
		t.Error("a function outside of the code")
	}
}

// TestGo reads functions, lines and inlined calls of this test binary twice: from its
// DWARF, and stripped of it from the Go linker's own table.
func TestGo(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join("testdata", "inline.go.txt")
	b, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(dir, "main.go")
	if err := os.WriteFile(main, b, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = exec.LookPath("go")
	recordtest.Require(t, "go", err)
	for name, flags := range map[string][]string{
		"stripped": {"-ldflags=-s -w"}, "pie": {"-buildmode=pie", "-ldflags=-s -w"}, "whole": nil,
	} {
		t.Run(name, func(t *testing.T) {
			exe := filepath.Join(dir, name)
			cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", exe, main)...)
			cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0", "GO111MODULE=off")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			m := image(t, exe)
			// Look at each byte of main.outer for the calls that were inlined.
			want := "main.inner main.go:8 inlined, main.middle main.go:13 inlined, main.outer main.go:20"
			var start uint64
			m.load()
			for _, c := range m.main.code {
				for a := c.lo; a < c.hi && start == 0; a += 16 {
					if f, ok := m.Func(a); ok && f.Name == "main.outer" {
						start = f.Start
					}
				}
			}
			if start == 0 {
				t.Fatal("no main.outer")
			}
			found := map[string]bool{}
			for a := start; ; a++ {
				if f, ok := m.Func(a); !ok || f.Start != start {
					break
				}
				var s []string
				for _, p := range m.Places(a) {
					x := fmt.Sprintf("%s %s:%d", p.Function, filepath.Base(p.File), p.Line)
					if p.Inlined {
						x += " inlined"
					}
					s = append(s, x)
				}
				found[strings.Join(s, ", ")] = true
			}
			if !found[want] {
				t.Errorf("no %q in %v", want, found)
			}
			if err := m.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestGDB compares what gdb calls "info symbol".
func TestGDB(t *testing.T) {
	exe := build(t, "g++", "inline.cc", "gdb", "-O2", "-g")
	addrs := instructions(t, exe)
	m := image(t, exe)
	args := []string{"-batch", "-nx", "-iex", "set debuginfod enabled off"}
	for i := 0; i < len(addrs); i += 7 {
		args = append(args, "-ex", fmt.Sprintf("info symbol %#x", addrs[i]))
	}
	lines := strings.Split(tool(t, "", "gdb", append(args, exe)...), "\n")
	n := 0
	for i := 0; i < len(addrs); i += 7 {
		if n >= len(lines) {
			t.Fatal("gdb says too little")
		}
		got, want := "", lines[n]
		n++
		f, ok := m.Func(addrs[i])
		if strings.HasPrefix(want, "No symbol") || !ok {
			// gdb goes on from a function to the next; we stop at its end.
			continue
		}
		if got = Demangle(f.Name); addrs[i] > f.Start {
			got += fmt.Sprintf(" + %d", addrs[i]-f.Start)
		}
		want, _, _ = strings.Cut(want, " in section ")
		want = strings.Replace(want, "[cold]", ".cold", 1)
		if got != want && !strings.HasSuffix(f.Name, "@plt") {
			t.Errorf("%#x is %s; gdb says %s", addrs[i], got, want)
		}
	}
	if n < 20 {
		t.Errorf("%d addresses compared", n)
	}
}

func TestDemangle(t *testing.T) {
	for _, c := range [][3]string{
		{"_Z4workiPKc", "work(int, char const*)", "work"},
		{"_ZN3foo3barIiEEvT_", "void foo::bar<int>(int)", "foo::bar<int>"},
		{"_RNvC6_123foo3bar", "123foo::bar", "123foo::bar"},
		{"_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write", "core::fmt::write"},
		{"main", "main", "main"},
		{"_Z", "_Z", "_Z"},
		{"_Z4workiPKc.constprop.0", "work(int, char const*) [clone .constprop.0]", "work"},
		{"__libc_start_main", "__libc_start_main", "__libc_start_main"},
	} {
		if got := Demangle(c[0]); got != c[1] {
			t.Errorf("%s: %q, want %q", c[0], got, c[1])
		}
		if got := Short(c[0]); got != c[2] {
			t.Errorf("short %s: %q, want %q", c[0], got, c[2])
		}
	}
}

func TestPerfMap(t *testing.T) {
	m := ReadPerfMap([]byte("1000 10 old\n1010 20 LazyCompile:~f /x.js:1\n\nzzz\n2000 0 none\n1008 4 inner\n1000 8 new\n3000 ffffffffffffffff far\n0x4000 0x10 hex\n5000 10"))
	for a, want := range map[uint64]string{
		0xfff: "", 0x1000: "new", 0x1007: "new", 0x1008: "inner", 0x100c: "old", 0x1010: "LazyCompile:~f /x.js:1", 0x102f: "LazyCompile:~f /x.js:1",
		0x1030: "", 0x2000: "", 0x3001: "", 0x400f: "hex", 0x5000: "",
	} {
		if got, _, ok := m.Find(a); got != want || ok != (want != "") {
			t.Errorf("%#x: %q, want %q", a, got, want)
		}
	}
}
