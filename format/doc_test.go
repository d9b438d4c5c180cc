package format

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"strings"
	"testing"
)

// docTable is the rows of the table behind a mark in docs/format.md.
func docTable(t *testing.T, mark string) (rows [][]string) {
	t.Helper()
	b, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "<!-- table: "+mark+" -->\n")
	if !ok {
		t.Fatalf("docs/format.md has no table %q", mark)
	}
	for _, line := range strings.Split(rest, "\n") {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var row []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(c))
		}
		rows = append(rows, row)
	}
	return rows[2:]
}

func TestDocTypes(t *testing.T) {
	doc := map[string]string{}
	for _, row := range docTable(t, "types") {
		doc[row[0]] = row[1]
	}
	n := 0
	for typ, name := range Types {
		if name == "" {
			continue
		}
		n++
		if doc[fmt.Sprint(typ)] != name {
			t.Errorf("type %d is %s in the code and %q in docs/format.md", typ, name, doc[fmt.Sprint(typ)])
		}
	}
	if n != len(doc) {
		t.Errorf("docs/format.md has %d types, the code %d", len(doc), n)
	}
}

// TestDocLimits reads the exported constants of limits.go.
func TestDocLimits(t *testing.T) {
	doc := map[string]string{}
	for _, row := range docTable(t, "limits") {
		doc[row[0]] = row[1]
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "limits.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	// Only addr.PageSize comes from elsewhere, in constants that are not exported.
	f.Imports = nil
	conf := types.Config{Importer: importer.Default(), Error: func(error) {}}
	pkg, _ := conf.Check("format", fset, []*ast.File{f}, nil)
	for _, name := range pkg.Scope().Names() {
		if !ast.IsExported(name) {
			continue
		}
		v := constant.ToInt(pkg.Scope().Lookup(name).(*types.Const).Val()).ExactString()
		if doc[name] != v {
			t.Errorf("%s is %s in the code and %q in docs/format.md", name, v, doc[name])
		}
		delete(doc, name)
	}
	for name := range doc {
		t.Errorf("docs/format.md has a limit %s that the code has not", name)
	}
}
