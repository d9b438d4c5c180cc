package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"memtrace/analyze/export"
	"memtrace/format/arch"
)

// exportOptions are the flags of export.
type exportOptions struct {
	to, at, first, last, out, set string
	pid                           uint32
}

func newExportCmd() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export [FILE] --to FORMAT",
		Short: "Give what a log holds to other programs: an ELF core, JSON lines, CSV",
		Long: `export writes a log, or a step of it, in a format that other programs read.

A core has the registers of all threads and the memory as far as the log knows
them at --at STEP. What is not in the log is absent: gdb takes unchanged pages of
files from the files, and says of the rest that it cannot read it. What is older
than the step is noted on stderr.

Formats:
` + formatList(),
		Example: `  memtrace export --to core --at 50% -o core && gdb ./prog core
  memtrace export --to jsonl -e memory | jq .name
  memtrace export --to csv -o events.csv`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runExport(cmd, fileArg(args), &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "the `FORMAT`")
	f.StringVar(&o.at, "at", "", "the `STEP` of a core (default: the last with the process's memory)")
	f.StringVar(&o.first, "from", "", "first `STEP` of a list of events")
	f.StringVar(&o.last, "until", "", "last `STEP` of a list of events")
	f.Uint32Var(&o.pid, "pid", 0, "only the process `PID`; of a core: which (default: the log's first)")
	f.StringVarP(&o.set, "trace", "e", "all", "only these system calls, in strace's `SET` syntax")
	f.StringVarP(&o.out, "output", "o", "-", "write to `OUT`; - is standard output")
	_ = cmd.RegisterFlagCompletionFunc("to", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		var names []string
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
	return strings.TrimRight(b.String(), "\n")
}

func runExport(cmd *cobra.Command, name string, o *exportOptions) error {
	if o.to == "" {
		return usagef("export to what? --to FORMAT")
	}
	form, err := export.Find(o.to)
	if err != nil {
		return usageError{err}
	}
	flags := cmd.Flags()
	switch {
	case form.Moment && (flags.Changed("from") || flags.Changed("until") || flags.Changed("trace")):
		return usagef("%s is about one step: --from, --until and --trace do not go with it", o.to)
	case !form.Moment && flags.Changed("at"):
		return usagef("%s is a list of events: --at does not go with it; want --from and --until", o.to)
	}
	eo := export.Options{PID: o.pid, AllCalls: !flags.Changed("trace")}
	if eo.Set, err = arch.ParseSet(o.set); err != nil {
		return usageError{err}
	}
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	exporting := func(err error) error { return fmt.Errorf("export %s: %w", name, err) }
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

// writeTo calls f with where output goes: a new file of its own, which is
// removed if f fails, or standard output, which is no place for binary data if
// it is a terminal.
func writeTo(cmd *cobra.Command, name string, binary bool, f func(io.Writer) error) error {
	if name == "-" {
		if binary && cmd.OutOrStdout() != nil && isatty.IsTerminal(os.Stdout.Fd()) {
			return usagef("standard output is a terminal: redirect it, or name a file with -o")
		}
		return f(cmd.OutOrStdout())
	}
	// What is in a process's memory is nobody else's business.
	w, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = f(w); err == nil {
		return w.Close()
	}
	_ = w.Close()
	if st, serr := os.Stat(name); serr == nil && st.Mode().IsRegular() {
		_ = os.Remove(name)
	}
	return err
}
