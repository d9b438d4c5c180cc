package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"memtrace/analyze/export"
	"memtrace/format"
	"memtrace/format/arch"
)

// exportOptions are the flags of export.
type exportOptions struct {
	to, at, first, last, out, set, value string
	pid                                  uint32
	lake                                 lakeOptions
}

func newExportCmd() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export [FILE...] --to FORMAT",
		Short: "Give what logs hold to other programs: a core, JSON, CSV, flame graphs, pprof, Perfetto, Parquet",
		Long: `export writes a log, or a step of it, in a format that other programs read.

A core has the registers of all threads and the memory of a process, as far as the
log knows them at --at STEP. Memory that is not in the log is not in the core: gdb
reads unchanged pages from the files, and says that it cannot read the rest. A note
on stderr says what is older than the step.

Parquet is for many logs: -o DIR becomes a lake, a folder of tables that DuckDB,
ClickHouse, Spark and Trino read. A log that is exported again replaces itself. All
other formats are of one log. memtrace query asks questions of a lake.

Formats:
` + formatList(),
		Example: `  memtrace export --to core --at 50% -o core && gdb ./prog core
  memtrace export --to jsonl -e memory | jq .name
  memtrace export --to csv -o events.csv
  memtrace export --to pprof -o mem.pb.gz && go tool pprof -top mem.pb.gz
  memtrace export --to folded --value committed | flamegraph.pl >mem.svg
  memtrace export --to parquet -o lake --label commit=4f061ed *.data`,
		ValidArgsFunction: logFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.to == lakeFormat:
				return runLake(cmd, args, &o)
			case len(args) > 1:
				return usagef("%d logs: only --to parquet takes more than one", len(args))
			}
			return runExport(cmd, fileArg(args), &o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "the `FORMAT`")
	f.StringVar(&o.at, "at", "", "the `STEP` of a core (default: that of the fatal signal, else the last with the process's memory)")
	f.StringVar(&o.first, "from", "", "first `STEP` of a list of events")
	f.StringVar(&o.last, "until", "", "last `STEP` of a list of events")
	f.Uint32Var(&o.pid, "pid", 0, "only the process `PID`; of a core: which (default: the log's first)")
	f.StringVarP(&o.set, "trace", "e", "all", "only these system calls, in strace's `SET` syntax")
	f.StringVarP(&o.out, "output", "o", "-", "write to `OUT`; - is standard output")
	f.StringVar(&o.value, "value", "", "what stacks weigh: live, committed, mapped or calls (live)")
	addLakeFlags(cmd, &o.lake)
	addSymbolFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("to", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		names := []string{lakeFormat + "\t" + lakeShort}
		for _, f := range export.Formats {
			names = append(names, f.Name+"\t"+f.Short)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func formatList() string {
	var b strings.Builder
	for _, f := range export.Formats {
		fmt.Fprintf(&b, "  %-10s %s\n", f.Name, f.Short)
	}
	fmt.Fprintf(&b, "  %-10s %s", lakeFormat, lakeShort)
	return b.String()
}

func runExport(cmd *cobra.Command, name string, o *exportOptions) error {
	if o.to == "" {
		return usagef("export to what? --to FORMAT")
	}
	form, err := export.Find(o.to)
	if err != nil {
		return usageError{fmt.Errorf("%w, %s", err, lakeFormat)}
	}
	flags := cmd.Flags()
	switch {
	case changed(cmd, lakeFlags) != "":
		return usagef("--%s is for --to %s", changed(cmd, lakeFlags), lakeFormat)
	case form.Moment && (flags.Changed("from") || flags.Changed("until") || flags.Changed("trace")):
		return usagef("%s is about one step: --from, --until and --trace do not go with it", o.to)
	case !form.Moment && flags.Changed("at"):
		return usagef("%s is a list of events: --at does not go with it; want --from and --until", o.to)
	}
	eo := export.Options{PID: o.pid, AllCalls: !flags.Changed("trace"), Value: o.value}
	if eo.Set, err = arch.ParseSet(o.set); err != nil {
		return usageError{err}
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	exporting := func(err error) error { return fmt.Errorf("export %s: %w", name, err) }
	if o.pid, err = t.PIDOf(cmd.Context(), o.pid); err != nil {
		return exporting(err)
	}
	eo.PID = o.pid
	if form.Moment {
		if eo.At, err = lastOr(cmd.Context(), t, o.at, o.pid); err != nil {
			return exporting(err)
		}
	} else if eo.From, eo.To, err = span(t, o.first, o.last); err != nil {
		return exporting(err)
	}
	var notes []string
	err = writeTo(cmd, o.out, form.Binary, func(w io.Writer) error {
		notes, err = form.Write(cmd.Context(), t, w, eo)
		return err
	})
	for i, n := range notes {
		if i == 20 {
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: and %d more notes\n", len(notes)-i)
			break
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "memtrace: "+n)
	}
	if err != nil {
		return exporting(err)
	}
	return nil
}

// writeTo calls f with where output goes: a file that has its name when all of it is written, or
// standard output, which is no place for binary data if it is a terminal. What is no regular file
// is written to.
func writeTo(cmd *cobra.Command, name string, binary bool, f func(io.Writer) error) error {
	if name == "-" {
		if binary && cmd.OutOrStdout() != nil && isatty.IsTerminal(os.Stdout.Fd()) {
			return usagef("standard output is a terminal: redirect it, or name a file with -o")
		}
		return f(cmd.OutOrStdout())
	}
	return writeFile(name, f)
}

// notLog is an error if a file is a log, whole or not, whatever name leads to it: what can be made
// again takes the place of what was there, but never of a log, which can not.
func notLog(name string) error {
	if st, err := os.Stat(name); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil // writing says what is the matter
	}
	defer f.Close()
	const begin = 8 // bytes, which tell a log
	if _, err := format.NewReader(f, begin, nil); errors.Is(err, format.ErrFormat) {
		return nil
	}
	return fmt.Errorf("%s is a log, which nothing is written over: name another file", name)
}

// writeFile is writeTo for a file. One that is there is replaced, but for logs.
func writeFile(name string, f func(io.Writer) error) error {
	if err := notLog(name); err != nil {
		return err
	}
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		w, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			w, err = os.OpenFile(name, os.O_WRONLY, 0) // a pipe that others only read
		}
		if err != nil {
			return err
		}
		return errors.Join(f(w), w.Close())
	}
	if to, err := filepath.EvalSymlinks(name); err == nil {
		name = to
	}
	return whole(name, func(w *os.File) error { return f(w) }, os.Rename)
}

// writeWhole calls f with a file that gets its name when all of it is on the disk, or with standard
// output. A file of that name must not exist. Whatever happens meanwhile, there is none.
func writeWhole(cmd *cobra.Command, name string, f func(io.Writer) error) error {
	if name == "-" {
		return writeTo(cmd, name, true, f)
	}
	return writeNew(name, func(w *os.File) error { return f(w) })
}

// writeNew is writeWhole for f that needs a file. Nothing may have its name, not a link either: who
// has made that would choose what is written to.
func writeNew(name string, f func(*os.File) error) error {
	exists := fmt.Errorf("%s exists already: name another with -o", name)
	if _, err := os.Lstat(name); err == nil {
		return exists
	}
	return whole(name, f, func(old, name string) error {
		err := os.Link(old, name) // unlike a rename it leaves what is there
		switch {
		case errors.Is(err, fs.ErrExist):
			return exists
		case err != nil: // the file system has no links
			return os.Rename(old, name)
		}
		return nil
	})
}

// whole calls f with a file beside name, and has it named when all of it is on the disk.
func whole(name string, f func(*os.File) error, named func(old, name string) error) error {
	// What is in a process's memory is nobody else's business: it is readable by its owner only.
	w, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.part")
	if err != nil {
		return err
	}
	defer os.Remove(w.Name())
	err = f(w)
	if err == nil {
		err = w.Sync()
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	return named(w.Name(), name)
}
