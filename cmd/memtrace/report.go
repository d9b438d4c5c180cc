package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"memtrace/analyze"
	"memtrace/analyze/plot"
	"memtrace/replay"
)

// reportOptions are the flags of report.
type reportOptions struct {
	format, from, to, at, sort string
	plot                       string
	pid                        uint32
	top                        int
}

func newReportCmd() *cobra.Command {
	var o reportOptions
	cmd := &cobra.Command{
		Use:   "report [FILE] [TABLE...]",
		Short: "Tables of what happened: summary, syscalls, growth, maps, ...",
		Long: `Without a TABLE, report writes the summary. memtrace report list names all
tables. A first argument that is the name of a table is a table; write ./NAME for
a log of that name.

Numbers are rounded in tables and Markdown, and exact in JSON and CSV.` + "\n\n" + reportList(),
		Example: `  memtrace report
  memtrace report syscalls --sort errors --top 5
  memtrace report growth --format json
  memtrace report maps --at 50%`,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			names := []string{"list\tname all tables"}
			for _, r := range analyze.Reports {
				names = append(names, r.Name+"\t"+r.Short)
			}
			return names, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runReport(cmd, args, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "table", "`FORMAT`: table, json, csv or markdown")
	f.StringVar(&o.from, "from", "", "first `STEP` to count")
	f.StringVar(&o.to, "to", "", "last `STEP` to count")
	f.StringVar(&o.at, "at", "", "`STEP` for tables about one moment (default: the peak)")
	f.Uint32Var(&o.pid, "pid", 0, "only the process `PID`")
	f.IntVar(&o.top, "top", 0, "at most `N` rows; -1: all")
	f.StringVar(&o.plot, "plot", "", "draw the timeline into `FILE`, .svg or .png")
	f.StringVar(&o.sort, "sort", "", "sort by this `COLUMN`; -COLUMN the other way round")
	_ = cmd.RegisterFlagCompletionFunc("format", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
		for _, f := range analyze.Formats {
			names = append(names, string(f))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func reportList() string {
	var b strings.Builder
	for _, r := range analyze.Reports {
		fmt.Fprintf(&b, "  %-10s %s\n", r.Name, r.Short)
	}
	return strings.TrimRight(b.String(), "\n")
}

func runReport(cmd *cobra.Command, args []string, o *reportOptions) error {
	name := defaultLog
	isTable := func(s string) bool { _, err := analyze.Find(s); return err == nil || s == "list" }
	exact := func(s string) bool { r, err := analyze.Find(s); return err == nil && r.Name == s || s == "list" }
	if len(args) > 0 && (!isTable(args[0]) || !exact(args[0]) && exists(args[0])) {
		name, args = args[0], args[1:]
	}
	form, err := analyze.ParseFormat(o.format)
	if err != nil {
		return usageError{err}
	}
	if o.plot != "" {
		if err := plot.Check(o.plot); err != nil {
			return usageError{fmt.Errorf("--plot %w", err)}
		}
		if len(args) == 0 {
			args = []string{"timeline"}
		}
	}
	if len(args) == 0 {
		args = []string{"summary"}
	}
	var reports []*analyze.Report
	for _, a := range args {
		if a == "list" {
			return analyze.List().Write(cmd.OutOrStdout(), form)
		}
		r, err := analyze.Find(a)
		if err != nil {
			return usageError{err}
		}
		reports = append(reports, r)
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	ao := analyze.Options{PID: o.pid, Top: o.top, Sort: o.sort, ASCII: !utf8Terminal(), Width: screenWidth()}
	if ao.From, ao.To, err = span(t, o.from, o.to); err != nil {
		return fmt.Errorf("report %s: %w", name, err)
	}
	if o.pid != 0 {
		if _, err := t.LastAlive(cmd.Context(), o.pid); err != nil {
			return fmt.Errorf("report %s: %w", name, err)
		}
	}
	if o.at != "" {
		at, err := t.StepOf(o.at)
		if err != nil {
			return fmt.Errorf("report %s: %w", name, err)
		}
		ao.At = &at
	}
	if o.plot != "" {
		if err := drawPlot(cmd, t, ao, o.plot); err != nil {
			return fmt.Errorf("report --plot %s: %w", o.plot, err)
		}
	}
	for i, r := range reports {
		res, err := r.Make(cmd.Context(), t, ao)
		if err != nil {
			return fmt.Errorf("report %s %s: %w", r.Name, name, err)
		}
		if i > 0 && form != analyze.JSON {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		if err := res.Write(cmd.OutOrStdout(), form); err != nil {
			return err
		}
	}
	return nil
}

// drawPlot draws the timeline into a file.
func drawPlot(cmd *cobra.Command, t *replay.Trace, o analyze.Options, name string) error {
	charts, err := analyze.Charts(cmd.Context(), t, o)
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(plot.Draw(f, name, charts), f.Close())
}

// utf8Terminal says whether the locale has more than ASCII.
func utf8Terminal() bool {
	for _, v := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if s := strings.ToLower(os.Getenv(v)); s != "" {
			return strings.Contains(s, "utf-8") || strings.Contains(s, "utf8")
		}
	}
	return false
}

// screenWidth is how wide a table may be: no wider than the terminal. COLUMNS
// says so too, also where the output goes elsewhere; 0 is no limit.
func screenWidth() int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	n, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return 0
	}
	return n
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
