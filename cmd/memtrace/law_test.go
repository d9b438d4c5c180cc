package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rooms are the packages and what each knows, from the bottom up. A package imports
// only what stands on a lower level. docs/architecture.md has this table.
var rooms = []struct {
	level int
	pkg   string
	knows string
}{
	{0, "format/addr", "addresses, ranges and the one set of them, with overflow"},
	{0, "format/arch", "architectures as data: calls, registers, errnos, signals, advice"},
	{0, "format/proctext", "the \"Key: value\" lines of /proc"},
	{0, "record/limits", "an end in one line where the Go runtime cannot start"},
	{0, "record/recordtest", "which skips of tests are failures"},
	{0, "analyze/refs", "what recorded page references prove: LRU depths, Belady's optimum, working sets"},
	{0, "analyze/web/dist", "the page of the viewer as it was built, embedded"},
	{1, "format/vma", "the interval map of mappings"},
	{1, "format/call", "calls in strace's notation, and what memory it takes to say them"},
	{1, "format/unwind/cfi", "call frame information: .eh_frame and .debug_frame"},
	{1, "format/unwind/pcln", "the tables of the Go linker, as far as it takes to unwind"},
	{1, "format/unwind/code", "where a function returns, by its instructions"},
	{1, "record/ptrace", "the raw requests and stops of ptrace(2)"},
	{2, "format", "the log: records, chunks, index, writer, reader, state, verify, recover"},
	{2, "format/unwind", "call stacks out of registers and any memory; no calls of the operating system"},
	{2, "record/tracee/siginfo", "what the kernel tells of a signal, as bytes, and which signals are memtrace's own"},
	{2, "record/tracee/request", "the requests of ptrace(2) that tracers make: numbers, options, and the data that they move"},
	{2, "record/tracee/seccomp", "the seccomp filters that a program is given"},
	{2, "record/procfs", "/proc and its ioctls, userfaultfd, page faults"},
	{2, "replay/symbol", "ELF files and perf maps: functions, lines, inlined functions, the search for debug files"},
	{2, "replay/elfcore", "ELF cores"},
	{2, "replay/debuginfod", "files by build id from servers, if the user asks for it"},
	{0, "format/formattest", "a log decompressed, with nothing of package format; for tests"},
	{3, "format/redact", "what of a log may be shown: classes, rules, a filter, the proof"},
	{3, "replay", "a log at a step: cursors, processes, memory, text and JSON"},
	{3, "record/tracee", "the tracing thread: who runs, stands or sleeps; launching, holding, injecting"},
	{3, "record/space", "the live table of one address space: what a call does to it, one changing call at a time"},
	{3, "record/dirty", "which pages were written: userfaultfd, soft-dirty bits, comparison, page faults"},
	{3, "record/refs", "which blocks of an address space are open to a page trace, what the program believes of its mappings, how instructions refer to memory"},
	{3, "record/inproc", "recording calls inside the program: the code that runs there, its table, its records, how to put a thread back"},
	{3, "record/dirty/dirtytest", "a simulated address space, for tests"},
	{3, "record/ring", "the last part of a recording: segments, conditions for keeping them, who may ask for it"},
	{4, "record/tracee/traceetest", "a simulated kernel that stops programs as ptrace(2) says, for tests"},
	{4, "record/inside", "which programs record their calls themselves, and when: the code put into them, calls made of their records"},
	{4, "record/pagetrace", "page traces: which memory is closed to a program and what opens it, what the kernel accesses for calls, page writes"},
	{4, "record/snapshot", "reading memory, held or running; what a page of a mapping is"},
	{4, "analyze", "reports as values, and their tables"},
	{4, "replay/gdbstub", "gdb's remote protocol: a log that gdb goes through in both directions"},
	{4, "replay/replaytest", "small logs, for tests"},
	{5, "record", "policy of recording: which fact becomes which record, when memory is read; sessions"},
	{5, "analyze/export", "a log, or a process at a moment, in formats of other programs"},
	{5, "analyze/export/parquet", "logs as tables for engines that query many at once, and what to ask them"},
	{5, "analyze/plot", "memory over time as a picture"},
	{5, "analyze/console", "the prompt, of a log or of a living program"},
	{5, "analyze/web", "what the viewer shows: the data of the page, and of the report in one file"},
	{6, "analyze/top", "the full-screen view"},
	{6, "analyze/web/server", "the viewer's server: who is let in, questions and long answers"},
	{7, "cmd/memtrace", "flags; one file a command; no logic"},
}

var levels = func() map[string]int {
	m := map[string]int{}
	for _, r := range rooms {
		m[r.pkg] = r.level
	}
	return m
}()

// owners say which packages alone may import a library: one, or several with commas
// between.
var owners = []struct{ lib, owner string }{
	{"github.com/klauspost/compress", "format"},
	{"github.com/spf13/cobra", "cmd"},
	{"github.com/spf13/pflag", "cmd"},
	{"github.com/olekukonko/tablewriter", "analyze"},
	{"charm.land/bubbletea", "analyze/top"},
	{"gonum.org/v1/plot", "analyze/plot"},
	{"github.com/peterh/liner", "analyze/console"},
	{"github.com/ianlancetaylor/demangle", "replay/symbol"},
	{"google.golang.org/protobuf", "analyze/export"},
	{"github.com/google/pprof", "analyze/export"},
	{"github.com/parquet-go/parquet-go", "analyze/export/parquet"},
	{"golang.org/x/sys/unix", "record"},
	{"golang.org/x/arch", "format/unwind/code,record/inproc"},
	{"unsafe", "record"},
	{"memtrace/record/ptrace", "record/tracee"},
}

// tables are files of data that may be longer than code may.
var tables = []string{"format/arch/", "format/call/flagtab.go", "format/call/structs.go", "format/call/sig.go"}

const maxLines = 800

func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// TestLaw reads the imports of every Go file of the tree. It parses them itself:
// a test that runs the go command would pass from the test cache after the law
// is broken.
func TestLaw(t *testing.T) {
	root := filepath.Join("..", "..")
	seen := 0
	there := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n != ".." && strings.HasPrefix(n, ".") || n == "testdata" || n == "docs" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		seen++
		rel = filepath.ToSlash(rel)
		there[path.Dir(rel)] = true
		checkFile(t, rel, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d files found: the law looks at the wrong place", seen)
	}
	for _, r := range rooms {
		if !there[r.pkg] {
			t.Errorf("there is no package %s", r.pkg)
		}
	}
}

// TestArchitecture compares the table of docs/architecture.md with the rooms.
func TestArchitecture(t *testing.T) {
	var table strings.Builder
	table.WriteString("| package | level | what it knows |\n|---|---|---|\n")
	for _, r := range rooms {
		fmt.Fprintf(&table, "| %s | %d | %s |\n", r.pkg, r.level, r.knows)
	}
	name := filepath.Join("..", "..", "docs", "architecture.md")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	begin := strings.Index(doc, "| package |")
	if begin < 0 {
		t.Fatal("docs/architecture.md has no table of packages")
	}
	end := begin + strings.Index(doc[begin:], "\n\n") + 1
	if doc[begin:end] == table.String() {
		return
	}
	if *update {
		if err := os.WriteFile(name, []byte(doc[:begin]+table.String()+doc[end:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("docs/architecture.md has another table of packages than law_test.go: go test ./cmd/memtrace -run TestArchitecture -update")
}

func checkFile(t *testing.T, rel, name string) {
	t.Helper()
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(src), "\n"); n > maxLines &&
		!slices.ContainsFunc(tables, func(p string) bool { return strings.HasPrefix(rel, p) }) {
		t.Errorf("%s has %d lines, more than %d", rel, n, maxLines)
	}
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	pkg := path.Dir(rel)
	test := strings.HasSuffix(rel, "_test.go")
	level, known := levels[pkg]
	if !known && f.Name.Name != "main" {
		t.Errorf("%s: package %s has no level; give it one here and in docs/architecture.md", rel, pkg)
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, o := range owners {
			owned := slices.ContainsFunc(strings.Split(o.owner, ","), func(owner string) bool { return under(pkg, owner) })
			if under(imp, o.lib) && !owned && !(test && under(o.lib, "memtrace")) && "memtrace/"+pkg != o.lib {
				t.Errorf("%s imports %s, which is for %s alone", rel, imp, o.owner)
			}
		}
		if imp == "unsafe" && !strings.HasSuffix(rel, "_unsafe.go") {
			t.Errorf("%s imports unsafe: only files named *_unsafe.go may", rel)
		}
		dep, ours := strings.CutPrefix(imp, "memtrace/")
		if !ours {
			continue
		}
		switch depLevel, ok := levels[dep]; {
		case test && dep == "record/recordtest": // it knows nothing of record
		case under(pkg, "record") && under(dep, "replay"), under(pkg, "replay") && under(dep, "record"):
			t.Errorf("%s imports %s: record and replay share format, nothing else", rel, dep)
		case !ok:
			t.Errorf("%s imports %s, which has no level", rel, dep)
		case known && depLevel >= level && !test:
			t.Errorf("%s (level %d) imports %s (level %d): imports go strictly down", rel, level, dep, depLevel)
		}
	}
}

// What the recorder keeps to: whoever extends it has to find his way.
const (
	mostLines   = 80 // of a function of record and what is below it
	mostFields  = 20 // of record.Recorder
	mostMethods = 70
)

// TestRecorderLaw looks at the size of what is under record, and at how its files
// begin.
func TestRecorderLaw(t *testing.T) {
	root := filepath.Join("..", "..", "record")
	methods := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		told := false
		for _, c := range f.Comments {
			told = told || c.Pos() < f.Package && c.Text() != ""
		}
		if !told {
			t.Errorf("%s does not begin with a sentence on what it is for", name)
		}
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if n := fset.Position(d.End()).Line - fset.Position(d.Pos()).Line; n > mostLines {
					t.Errorf("%s: %s has %d lines, more than %d", name, d.Name.Name, n, mostLines)
				}
				if isRecorder(d.Recv) {
					methods++
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					s, ok := spec.(*ast.TypeSpec)
					if !ok || s.Name.Name != "Recorder" {
						continue
					}
					if n := s.Type.(*ast.StructType).Fields.NumFields(); n > mostFields {
						t.Errorf("Recorder has %d fields, more than %d", n, mostFields)
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if methods == 0 || methods > mostMethods {
		t.Errorf("Recorder has %d methods, more than %d", methods, mostMethods)
	}
}

// isRecorder says whether a receiver is a *Recorder.
func isRecorder(recv *ast.FieldList) bool {
	if recv == nil {
		return false
	}
	star, ok := recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	id, ok := star.X.(*ast.Ident)
	return ok && id.Name == "Recorder"
}
