package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"memtrace/analyze"
	"memtrace/analyze/plot"
	"memtrace/format/addr"
	"memtrace/replay"
)

// reportOptions are the flags of report.
type reportOptions struct {
	follow                     bool
	format, from, to, at, sort string
	plot                       string
	by, what                   string
	frees                      bool
	stacks                     int
	skip                       []string
	cost                       time.Duration
	tau                        []time.Duration
	pid                        uint32
	top                        int
	html                       htmlOptions
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
  memtrace report maps --at 50%
  memtrace report --html report.html   # all of it on one page, to send to somebody`,
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
	f.StringVar(&o.by, "by", "", "call sites by `WHAT`: line, function, module, address or stack")
	f.StringArrayVar(&o.skip, "skip", nil, "take functions or files like `PATTERN` for an allocator's; none: no function is one")
	f.StringVar(&o.what, "what", "", "callsites: rank by `MEMORY`: committed, mapped or resident (default committed)")
	f.BoolVar(&o.frees, "frees", false, "callsites: also who gave the memory back")
	f.IntVar(&o.stacks, "stacks", 0, "callsites: also the `N` stacks of each site that have most")
	addSymbolFlags(cmd)
	o.html.add(cmd)
	f.BoolVar(&o.follow, "follow", false, "write the tables again while the log is still being written")
	f.StringVar(&o.plot, "plot", "", "draw the report into `FILE`, .svg or .png (default: the timeline)")
	f.DurationVar(&o.cost, "fault-cost", 0, "what-if: how long a fault takes (default 100us)")
	f.DurationSliceVar(&o.tau, "tau", nil, "working-set: windows of time (default 10ms,100ms,1s)")
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
		fmt.Fprintf(&b, "  %-12s %s\n", r.Name, r.Short)
	}
	return strings.TrimRight(b.String(), "\n")
}

func runReport(cmd *cobra.Command, args []string, o *reportOptions) error {
	name, tables, err := reportArgs(args)
	if err != nil {
		return err
	}
	if o.html.out != "" {
		if len(tables) > 0 || o.plot != "" {
			return usagef("report --html writes a page of its own: it takes no TABLE and no --plot")
		}
		return runHTML(cmd, name, &o.html)
	}
	form, err := analyze.ParseFormat(o.format)
	if err != nil {
		return usageError{err}
	}
	if o.plot != "" {
		if err := plot.Check(o.plot); err != nil {
			return usageError{fmt.Errorf("--plot %w", err)}
		}
	}
	switch {
	case slices.Contains(tables, "list"):
		return analyze.List().Write(cmd.OutOrStdout(), form)
	case len(tables) == 0 && o.plot != "":
		tables = []string{"timeline"}
	case len(tables) == 0:
		tables = []string{"summary"}
	}
	var reports []*analyze.Report
	for _, a := range tables {
		r, err := analyze.Find(a)
		if err != nil {
			return usageError{err}
		}
		reports = append(reports, r)
	}
	memory, err := whatIfMemory(cmd, reports)
	if err != nil {
		return err
	}
	write := func(t *replay.Trace) error { return o.write(cmd, t, name, reports, form, memory) }
	if o.follow {
		if o.plot != "" {
			return usagef("report --follow writes tables, and no --plot")
		}
		return followTables(cmd, name, write)
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	return write(t)
}

// write writes reports on a log.
func (o *reportOptions) write(cmd *cobra.Command, t *replay.Trace, name string, reports []*analyze.Report, form analyze.Format, memory uint64) error {
	ao, err := o.analysis(cmd, t)
	if err != nil {
		return fmt.Errorf("report %s: %w", name, err)
	}
	ao.Log, ao.Memory = shownLog(name), memory
	if o.plot != "" {
		i := slices.IndexFunc(reports, (*analyze.Report).CanPlot)
		if i < 0 {
			return usagef("--plot: a picture is there of timeline, memory-curve, what-if, working-set, hot and phases")
		}
		if err := drawPlot(cmd, t, reports[i], ao, o.plot); err != nil {
			return fmt.Errorf("report --plot %s: %w", o.plot, err)
		}
	}
	for i, r := range reports {
		res, err := r.Make(cmd.Context(), t, ao)
		if err != nil {
			return fmt.Errorf("report %s %s: %w", r.Name, name, err)
		}
		res.Named = len(reports) > 1
		if i > 0 && form != analyze.JSON {
			fmt.Fprintln(cmd.OutOrStdout())
		}
		if err := res.Write(cmd.OutOrStdout(), form); err != nil {
			return err
		}
	}
	return nil
}

// reportArgs tells the log from the tables, which may come in any order. The name of a
// table is a table, and the beginning of one is if there is no file of that name.
func reportArgs(args []string) (name string, tables []string, err error) {
	for i, a := range args {
		r, ferr := analyze.Find(a)
		switch {
		case ferr == nil && r.Name == a, a == "list", ferr == nil && !exists(a):
			tables = append(tables, a)
		case name == "" && a != "-" && !exists(a) && !strings.ContainsAny(a, "./"):
			return "", nil, usagef("%v, and there is no file of that name", ferr)
		case name == "" && (i == 0 || a == "-" || exists(a)):
			name = a
		case name != "" && exists(a):
			return "", nil, usagef("%s and %s are two logs: memtrace diff compares them", name, a)
		default:
			return "", nil, usageError{ferr}
		}
	}
	return cmp.Or(name, defaultLog), tables, nil
}

// analysis is what the flags say of all reports.
func (o *reportOptions) analysis(cmd *cobra.Command, t *replay.Trace) (analyze.Options, error) {
	ao := analyze.Options{Top: o.top, Sort: o.sort, ASCII: !utf8Terminal(), Width: screenWidth(), FaultCost: o.cost, Tau: o.tau, By: o.by, Skip: o.skip, What: o.what, Frees: o.frees, Stacks: o.stacks}
	if o.cost < 0 || slices.ContainsFunc(o.tau, func(d time.Duration) bool { return d <= 0 }) {
		return ao, usagef("--fault-cost and --tau are times")
	}
	var err error
	if ao.From, ao.To, err = span(t, o.from, o.to); err != nil {
		return ao, err
	}
	if ao.PID, err = t.PIDOf(cmd.Context(), o.pid); err != nil {
		return ao, err
	}
	if o.pid != 0 {
		if _, err := t.LastAlive(cmd.Context(), ao.PID); err != nil {
			return ao, err
		}
	}
	if o.at == "" {
		return ao, nil
	}
	at, err := t.StepOf(o.at)
	ao.At = &at
	return ao, err
}

// whatIfMemory is the --memory of what-if. It is not what reading the log may take,
// then.
func whatIfMemory(cmd *cobra.Command, reports []*analyze.Report) (uint64, error) {
	size, err := cmd.Flags().GetString(memoryFlag)
	if err != nil || size == "" || !slices.ContainsFunc(reports, func(r *analyze.Report) bool { return r.Name == "what-if" }) {
		return 0, err
	}
	n, err := parseSize(size)
	if err != nil || n < addr.PageSize {
		return 0, usagef("--%s %s: want a size of at least a page, as 64M", memoryFlag, size)
	}
	return uint64(n), cmd.Flags().Set(memoryFlag, "")
}

// drawPlot draws a report into a file.
func drawPlot(cmd *cobra.Command, t *replay.Trace, r *analyze.Report, o analyze.Options, name string) error {
	charts, err := r.Charts(cmd.Context(), t, o)
	if err != nil {
		return err
	}
	return writeFile(name, func(w io.Writer) error { return plot.Draw(w, name, charts) })
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

// shownLog is a log's name in commands to type next: none for the one that is taken without
// a name.
func shownLog(name string) string {
	if name == defaultLog {
		return ""
	}
	return name
}
