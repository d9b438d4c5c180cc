package parquet

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Question is a query of a lake, in DuckDB's SQL.
type Question struct {
	Name string
	Asks string // what it answers
	SQL  string
}

//go:embed questions/*.sql
var questions embed.FS

// Questions are those that are ready to be asked, as docs/fleet.md has them.
var Questions = []string{"peak", "sites", "growth", "slower", "failures", "crashes", "pressure", "files"}

// Ask finds a question by its name.
func Ask(name string) (*Question, error) {
	if !slices.Contains(Questions, name) {
		return nil, fmt.Errorf("no question %q: want %s", name, strings.Join(Questions, ", "))
	}
	b, err := questions.ReadFile("questions/" + name + ".sql")
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return &Question{Name: name, Asks: strings.TrimPrefix(first, "-- "), SQL: string(b)}, nil
}

// TablesIn are the tables that a query may be about: those whose names are in it.
func TablesIn(sql string) []string {
	said := strings.FieldsFunc(strings.ToLower(sql), func(r rune) bool { return !isLetter(r) })
	return slices.DeleteFunc(slices.Clone(Tables), func(t string) bool { return !slices.Contains(said, t) })
}

// Views are statements in DuckDB's SQL that make a view of each table that one of the lakes
// has, over all of them.
func Views(lakes []string) string {
	var b strings.Builder
	for _, t := range Tables {
		var files []string
		for _, dir := range lakes {
			if _, err := os.Stat(filepath.Join(dir, t)); err == nil {
				files = append(files, quoted(filepath.ToSlash(filepath.Join(dir, t, "**", "*.parquet"))))
			}
		}
		if files != nil {
			fmt.Fprintf(&b, "CREATE VIEW %s AS FROM read_parquet([%s], hive_partitioning = true, hive_types_autocast = false);\n", t, strings.Join(files, ", "))
		}
	}
	b.WriteString("CREATE MACRO hex(x) AS printf('0x%x', x);\n")
	return b.String()
}

// quoted is a text in SQL.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
