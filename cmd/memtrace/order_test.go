package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// upward is how many pairs of files of a room may use each other against the order that its
// doc.go lists.
var upward = map[string]int{"record/tracee": 1}

// TestOrder holds the files of a room to the order in which its doc.go lists them: a file
// uses functions, methods, types, variables and constants of those before it.
func TestOrder(t *testing.T) {
	for room, most := range upward {
		fset, files := roomFiles(t, room)
		order := filesListed(files["doc.go"])
		for name := range files {
			if name != "doc.go" && !slices.Contains(order, name) {
				t.Errorf("%s/doc.go does not list %s", room, name)
			}
		}
		for _, name := range order {
			if files[name] == nil {
				t.Errorf("%s/doc.go lists %s, which is not there", room, name)
			}
		}
		back := map[[2]string][]string{}
		uses := usesBetween(fset, room, files)
		if len(uses) < 2*len(files) {
			t.Errorf("%s: only %d pairs of files use each other: the test looks at the wrong place", room, len(uses))
		}
		for pair, what := range uses {
			if slices.Index(order, pair[0]) < slices.Index(order, pair[1]) {
				back[pair] = what
			}
		}
		if len(back) > most {
			t.Errorf("%s: %d files use files that doc.go lists behind them, %d may: %v", room, len(back), most, back)
		}
	}
}

// TestRooms holds the files of every room of the recorder to leaning one way, and to few
// uses of each other: at most a quarter of the pairs that there could be.
func TestRooms(t *testing.T) {
	for room := range levels {
		if !under(room, "record") {
			continue
		}
		fset, files := roomFiles(t, room)
		uses := usesBetween(fset, room, files)
		if pairs := len(files) * (len(files) - 1); len(files) > 2 && len(uses) > pairs/4 {
			t.Errorf("%s: %d of %d pairs of files use each other", room, len(uses), pairs)
		}
		for pair := range uses {
			if upward[room] > 0 {
				break // TestOrder counts
			}
			if way := wayTo(uses, pair[1], pair[0], map[string]bool{}); way != nil {
				t.Errorf("%s: files use each other in a circle: %s, which uses %v of %s", room, strings.Join(way, " uses "), uses[pair], pair[1])
				break
			}
		}
	}
}

// wayTo is how one file uses another, through others.
func wayTo(uses map[[2]string][]string, from, to string, seen map[string]bool) []string {
	if from == to {
		return []string{to}
	}
	seen[from] = true
	for pair := range uses {
		if pair[0] != from || seen[pair[1]] {
			continue
		}
		if way := wayTo(uses, pair[1], to, seen); way != nil {
			return append([]string{from}, way...)
		}
	}
	return nil
}

// roomFiles reads the files of a package, tests and other systems' left out.
func roomFiles(t *testing.T, room string) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(room), "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no files in %s: %v", room, err)
	}
	fset, files := token.NewFileSet(), map[string]*ast.File{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, "_other.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = f
	}
	return fset, files
}

// filesListed are the files that the comment of a package lists, in order.
func filesListed(doc *ast.File) (names []string) {
	if doc == nil || doc.Doc == nil {
		return nil
	}
	for _, line := range strings.Split(doc.Doc.Text(), "\n") {
		if strings.HasPrefix(line, "\t") {
			names = append(names, regexp.MustCompile(`\w+\.go\b`).FindAllString(line, -1)...)
		}
	}
	return names
}

// empty imports packages with nothing in them: what is declared in the package at hand is
// found all the same.
type empty struct{}

func (empty) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// usesBetween says what files of a package use of others, fields and local names left out.
func usesBetween(fset *token.FileSet, room string, files map[string]*ast.File) map[[2]string][]string {
	var all []*ast.File
	for _, f := range files {
		all = append(all, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: empty{}, Error: func(error) {}}
	pkg, _ := conf.Check(room, fset, all, info) // the errors are about what is imported
	uses := map[[2]string][]string{}
	for id, o := range info.Uses {
		v, isVar := o.(*types.Var)
		if o.Pkg() != pkg || !o.Pos().IsValid() || isVar && (v.IsField() || v.Parent() != pkg.Scope()) {
			continue
		}
		pair := [2]string{filepath.Base(fset.Position(id.Pos()).Filename), filepath.Base(fset.Position(o.Pos()).Filename)}
		if pair[0] != pair[1] && !slices.Contains(uses[pair], o.Name()) {
			uses[pair] = append(uses[pair], o.Name())
		}
	}
	return uses
}
