package main

import (
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

// levels says which way imports lean: a package imports only what stands on a
// lower level (docs/architecture.md).
var levels = map[string]int{
	"format/addr": 0, "format/unwind/pcln": 0, "format/unwind/code": 0, "format/unwind/cfi": 0, "replay/debuginfod": 0, "analyze/refs": 0, "record/recordtest": 0, "format/proctext": 0, "format/arch": 0,
	"format/vma": 1, "format/call": 1, "record/ptrace": 1,
	"format": 2, "record/procfs": 2, "replay/symbol": 2, "replay/unwind": 2, "replay/elfcore": 2,
	"replay": 3,
	"record": 4, "analyze": 4, "replay/gdbstub": 4, "replay/replaytest": 4,
	"analyze/web": 5, "analyze/export": 5, "analyze/console": 5, "analyze/plot": 5, "analyze/top": 5,
	"cmd/memtrace": 6,
}

// owners say which packages alone may import a library.
var owners = []struct{ lib, owner string }{
	{"github.com/klauspost/compress", "format"},
	{"github.com/spf13/cobra", "cmd"},
	{"github.com/spf13/pflag", "cmd"},
	{"github.com/olekukonko/tablewriter", "analyze"},
	{"charm.land/bubbletea", "analyze/top"},
	{"gonum.org/v1/plot", "analyze/plot"},
	{"github.com/peterh/liner", "analyze/console"},
	{"golang.org/x/sys/unix", "record"},
	{"unsafe", "record"},
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
		checkFile(t, filepath.ToSlash(rel), name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d files found: the law looks at the wrong place", seen)
	}
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
			if under(imp, o.lib) && !under(pkg, o.owner) {
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
		case under(pkg, "record") && under(dep, "replay"), under(pkg, "replay") && under(dep, "record"):
			t.Errorf("%s imports %s: record and replay share format, nothing else", rel, dep)
		case !ok:
			t.Errorf("%s imports %s, which has no level", rel, dep)
		case known && depLevel >= level && !test:
			t.Errorf("%s (level %d) imports %s (level %d): imports go strictly down", rel, level, dep, depLevel)
		}
	}
}
