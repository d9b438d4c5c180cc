package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/analyze/export/parquet"
)

// queryOptions are the flags of query.
type queryOptions struct{ named, form, duckdb string }

// whereDuckDB says how to get the engine.
const whereDuckDB = "DuckDB is one file without dependencies: https://duckdb.org/install"

// queryForms are the forms of answers, and DuckDB's flags for them.
var queryForms = map[string]string{"table": "-box", "json": "-json", "csv": "-csv", "markdown": "-markdown"}

func newQueryCmd() *cobra.Command {
	var o queryOptions
	cmd := &cobra.Command{
		Use:   `query [FILE|LAKE...] ["SELECT ..."]`,
		Short: "Ask logs, or a lake of them, in SQL (with DuckDB)",
		Long: `query runs DuckDB, which has to be installed, with a view of each table of the lakes
that are named (folders that export --to parquet made) and of the logs, which it
exports to a temporary lake first. Without SQL and without --named, DuckDB reads
statements from standard input, or asks for them on a terminal.

docs/fleet.md says what the tables hold.

Questions that are ready (--named):
` + questionList(),
		Example: `  memtrace query lake --named growth
  memtrace query "SELECT name, count(*) FROM calls GROUP BY name ORDER BY 2 DESC"
  memtrace query lake --format csv "SELECT run, peak_rss FROM runs" >peaks.csv`,
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runQuery(cmd, args, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.named, "named", "", "ask the question `NAME`")
	f.StringVar(&o.form, "format", "", "the `FORM` of the answer: table, json, csv, markdown (DuckDB's own)")
	f.StringVar(&o.duckdb, "duckdb", "duckdb", "the `PROGRAM`")
	_ = cmd.RegisterFlagCompletionFunc("named", cobra.FixedCompletions(parquet.Questions, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json", "csv", "markdown"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func questionList() string {
	var b strings.Builder
	for _, name := range parquet.Questions {
		q, err := parquet.Ask(name)
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "  %-10s %s\n", name, q.Asks)
	}
	return strings.TrimRight(b.String(), "\n")
}

// inquiry is what the arguments of query mean.
type inquiry struct {
	logs, lakes []string
	sql         string // "": from standard input
}

// ask sorts the arguments out: the last is SQL if nothing of that name is there.
func (o *queryOptions) ask(args []string) (a inquiry, err error) {
	if o.named != "" {
		q, err := parquet.Ask(o.named)
		if err != nil {
			return a, usageError{err}
		}
		a.sql = q.SQL
	} else if n := len(args); n > 0 && !exists(args[n-1]) && strings.ContainsAny(args[n-1], " \n\t;") {
		a.sql, args = args[n-1], args[:n-1]
	}
	if len(args) == 0 {
		args = []string{defaultLog}
	}
	for _, name := range args {
		fi, err := os.Stat(name)
		switch {
		case name == "-":
			return a, usagef("query does not read a log from standard input")
		case err != nil:
			return a, err
		case fi.IsDir():
			a.lakes = append(a.lakes, name)
		default:
			a.logs = append(a.logs, name)
		}
	}
	return a, nil
}

func runQuery(cmd *cobra.Command, args []string, o *queryOptions) error {
	form, known := queryForms[o.form]
	if !known && o.form != "" {
		return usagef("no form %q: want table, json, csv or markdown", o.form)
	}
	a, err := o.ask(args)
	if err != nil {
		return err
	}
	engine, err := exec.LookPath(o.duckdb)
	if err != nil {
		return withoutDuckDB(cmd, &a, err)
	}
	if len(a.logs) > 0 {
		dir, err := os.MkdirTemp("", "memtrace-lake-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		po := parquet.Options{Tables: parquet.Tables, Recorder: versionLine()}
		if a.sql != "" {
			po.Tables = parquet.TablesIn(a.sql)
		}
		for _, name := range a.logs {
			if err := exportRun(cmd, name, dir, po); err != nil {
				return err
			}
		}
		a.lakes = append(a.lakes, dir)
	}
	return runDuckDB(cmd, engine, form, &a)
}

// runDuckDB has the engine answer. Its exit status is ours.
func runDuckDB(cmd *cobra.Command, engine, form string, a *inquiry) error {
	var args []string
	if form != "" {
		args = append(args, form)
	}
	if a.sql == "" {
		args = append(args, "-cmd", parquet.Views(a.lakes))
	} else {
		args = append(args, "-c", parquet.Views(a.lakes)+a.sql)
	}
	signal.Ignore(os.Interrupt) // Ctrl-C is DuckDB's
	defer signal.Reset(os.Interrupt)
	d := exec.Command(engine, args...)
	d.Stdin, d.Stdout, d.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	if a.sql == "" && cmd.InOrStdin() == os.Stdin {
		d.Stdin, d.Stdout, d.Stderr = os.Stdin, os.Stdout, os.Stderr // a terminal, for its line editor
	}
	err := d.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return &exitError{code: exit.ExitCode()}
	case err != nil:
		return fmt.Errorf("query: %s: %w", engine, err)
	}
	return nil
}

// withoutDuckDB says what the engine would have been asked, for another to be inquiry.
func withoutDuckDB(cmd *cobra.Command, a *inquiry, why error) error {
	lakes := a.lakes
	if len(a.logs) > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "-- memtrace export --to parquet -o LAKE %s\n", strings.Join(a.logs, " "))
	}
	if len(lakes) > 0 {
		fmt.Fprint(cmd.OutOrStdout(), parquet.Views(lakes))
	}
	fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(a.sql, "\n"))
	return &exitError{127, fmt.Errorf("query: %w; above is what it would have been asked. %s", why, whereDuckDB)}
}
