// Package parquet writes logs as the tables of a lake: a folder of Parquet files that DuckDB,
// ClickHouse, Spark, Trino and their like query, thousands of runs at once. docs/fleet.md says
// what the tables hold, and has questions to ask of them.
package parquet

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"memtrace/replay"
)

// Options say what is exported, and how.
type Options struct {
	Tables   []string          // of Tables
	Run      string            // the name of the run; "": the log's salt
	Labels   map[string]string // of the run
	Log      string            // the log's name, to be found again
	Flat     bool              // files instead of folders of partitions: the run is a column
	Text     bool              // events have the lines of calls, too
	Recorder string            // version of this program, for the files' metadata
}

// A run is exported into a folder of this name in the lake first. No table's name begins with
// a dot: what is left behind by an export that was killed is in nobody's way.
const staging = ".export-*"

// CheckRun says whether a name may be that of a run: it is a part of the names of files, and
// of queries.
func CheckRun(name string) error {
	odd := strings.ContainsFunc(name, func(r rune) bool { return !isLetter(r) && !strings.ContainsRune("0123456789.+-", r) })
	if name == "" || len(name) > 128 || odd || strings.ContainsRune(".+-", rune(name[0])) {
		return fmt.Errorf("a run cannot be called %q: want up to 128 letters, digits and _ . + -, not with one of .+- first", name)
	}
	return nil
}

// isLetter says whether a character may be in the name of a table.
func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_' }

// RunOf is how a log's run is called if nothing else is said: 32 hexadecimal digits, which
// were drawn when it was recorded.
func RunOf(t *replay.Trace) string { return hex.EncodeToString(t.Header().Salt[:]) }

// Export writes a log into the lake dir, which is made if need be. What the lake has of a run
// of this name is replaced, table by table. Nothing is under its final name before all of it
// is written; if it fails, the lake is as it was.
func Export(ctx context.Context, t *replay.Trace, dir string, o Options) (err error) {
	if o.Run == "" {
		o.Run = RunOf(t)
	}
	if err := CheckRun(o.Run); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := oneForm(dir, o.Flat); err != nil {
		return err
	}
	stage, err := os.MkdirTemp(dir, staging)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	if err := writeTables(ctx, t, stage, &o); err != nil {
		return err
	}
	for _, name := range Tables {
		if !slices.Contains(o.Tables, name) {
			continue
		}
		final := o.path(dir, name)
		if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(stage, name), final); err != nil {
			return err
		}
	}
	return nil
}

// path is the file of a table.
func (o *Options) path(dir, table string) string {
	if o.Flat {
		return filepath.Join(dir, table, o.Run+".parquet")
	}
	return filepath.Join(dir, table, "run="+o.Run, "part-0.parquet")
}

// oneForm fails if a lake has runs of the other form: engines do not read a table whose files
// say in two ways which run they are of.
func oneForm(dir string, flat bool) error {
	for _, table := range Tables {
		entries, err := os.ReadDir(filepath.Join(dir, table))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			folder := strings.HasPrefix(e.Name(), "run=")
			switch {
			case flat && folder:
				return fmt.Errorf("%s has a folder for each run: export to it without --flat, or to another folder", dir)
			case !flat && !folder && strings.HasSuffix(e.Name(), ".parquet"):
				return fmt.Errorf("%s has files without partitions: export to it with --flat, or to another folder", dir)
			}
		}
	}
	return nil
}
