package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/analyze"
	"memtrace/replay"
)

// diffOptions are the flags of diff.
type diffOptions struct {
	align, format, sort string
	failIf              []string
	top                 int
}

func newDiffCmd() *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff A B [TABLE...] | diff A... -- B... [TABLE...]",
		Short: "Compare two runs of a program, or several of each kind",
		Long: `diff compares what the runs of two logs did: time, calls, failures, memory by
kind, files. With several runs a side, A before -- and B behind it, it compares
medians, and from 4 runs a side on it tells change from chance.

Tables are ` + strings.Join(analyze.ComparisonTables, ", ") + `. Without
one it writes the summary and the memory. Runs are cut into phases by what both
have in the same order: exec, the last library (loaded), the first listen and
accept, the first signal, the end (exit), and marks of their own, which a
program makes with write(-1, "memtrace: NAME").

--fail-if exits 1 if a condition on the summary's figures holds, for tests.`,
		Example: `  memtrace diff old.data new.data
  memtrace diff old.data new.data calls --top 10
  memtrace diff --format json old-*.data -- new-*.data summary
  memtrace diff old.data new.data --fail-if 'peak_rss > 1.1*a' --fail-if 'failures > a'`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return analyze.ComparisonTables, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runCompare(cmd, args, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.align, "align", "markers", "cut runs into phases by `WHAT`: "+strings.Join(analyze.Aligns, ", "))
	f.StringVar(&o.format, "format", "table", "`FORMAT`: table, json, csv or markdown")
	f.StringVar(&o.sort, "sort", "", "sort by this `COLUMN`; -COLUMN the other way round")
	f.IntVar(&o.top, "top", 20, "at most `N` rows a table; -1: all")
	f.StringArrayVar(&o.failIf, "fail-if", nil, "exit 1 if `EXPR` holds: FIGURE OP VALUE, as peak_rss > 1.1*a")
	return cmd
}

// diffArgs are the logs of both sides, and the tables.
func diffArgs(args []string, dash int) (a, b, tables []string, err error) {
	var files []string
	inA := 0
	for i, x := range args {
		if slices.Contains(analyze.ComparisonTables, x) && !exists(x) {
			tables = append(tables, x)
			continue
		}
		if strings.HasPrefix(x, "-") && !exists(x) {
			return nil, nil, nil, usagef("diff: %s stands behind --, where only logs and tables are: put flags before A", x)
		}
		files = append(files, x)
		if i < dash {
			inA++
		}
	}
	switch {
	case dash >= 0 && inA > 0 && inA < len(files):
		return files[:inA], files[inA:], tables, nil
	case dash >= 0:
		return nil, nil, nil, usagef("diff: want logs before -- and behind it")
	case len(files) == 2:
		return files[:1], files[1:], tables, nil
	case len(files) > 2:
		return nil, nil, nil, usagef("diff of %d logs: which are A, and which B? diff A1 A2 -- B1 B2", len(files))
	}
	return nil, nil, nil, usagef("diff what? memtrace diff A B")
}

func runCompare(cmd *cobra.Command, args []string, o *diffOptions) (err error) {
	a, b, tables, err := diffArgs(args, cmd.ArgsLenAtDash())
	if err != nil {
		return err
	}
	if !slices.Contains(analyze.Aligns, o.align) {
		return usagef("--align %s: want %s", o.align, strings.Join(analyze.Aligns, ", "))
	}
	form, err := analyze.ParseFormat(o.format)
	if err != nil {
		return usageError{err}
	}
	var bounds []*analyze.Bound
	for _, x := range o.failIf {
		bound, err := analyze.ParseBound(x)
		if err != nil {
			return usageError{fmt.Errorf("--fail-if: %w", err)}
		}
		bounds = append(bounds, bound)
	}
	var runs []*replay.Trace
	defer func() {
		for _, t := range runs {
			err = errors.Join(err, t.Close())
		}
	}()
	for _, name := range slices.Concat(a, b) {
		t, err := openTrace(cmd, name)
		if err != nil {
			return err
		}
		runs = append(runs, t)
	}
	if len(tables) == 0 {
		tables = []string{"summary", "memory"}
	}
	c, err := analyze.Compare(cmd.Context(), runs[:len(a)], runs[len(a):], analyze.CompareOptions{Align: o.align, Tables: tables})
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	for i, x := range tables {
		s := c.Sheet(x, o.top < 0 || form == analyze.JSON || form == analyze.CSV)
		s.Width, s.Named = screenWidth(), len(tables) > 1
		if o.sort != "" {
			if err := s.Sort(o.sort); err != nil {
				return err
			}
		}
		if o.top > 0 {
			if left := s.Cut(o.top); left > 0 {
				s.Notes = append(s.Notes, fmt.Sprintf("%d more (--top -1 shows all)", left))
			}
		}
		if i > 0 && form != analyze.JSON {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		if err := s.Write(cmd.OutOrStdout(), form); err != nil {
			return err
		}
	}
	return checkBounds(c, bounds)
}

// checkBounds fails if one of the bounds is broken, and names all that are.
func checkBounds(c *analyze.Comparison, bounds []*analyze.Bound) error {
	var broken []string
	for _, b := range bounds {
		text, err := b.Check(c)
		if err != nil {
			return usageError{fmt.Errorf("--fail-if: %w", err)}
		}
		if text != "" {
			broken = append(broken, text)
		}
	}
	if broken == nil {
		return nil
	}
	return &exitError{statusFailed, fmt.Errorf("diff: %s", strings.Join(broken, "; "))}
}
