package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/analyze/export/parquet"
)

// lakeFormat is the format of export that is of many logs, and makes a folder.
const (
	lakeFormat = "parquet"
	lakeShort  = "tables of any number of logs, for DuckDB, ClickHouse, Spark and Trino"
)

// lakeOptions are the flags of export --to parquet.
type lakeOptions struct {
	tables, run string
	labels      []string
	flat, text  bool
}

// lakeFlags are for Parquet alone; otherFlags are not for Parquet.
var (
	lakeFlags  = []string{"tables", "run", "label", "flat", "text"}
	otherFlags = []string{"at", "from", "until", "pid", "trace", "value"}
)

func addLakeFlags(cmd *cobra.Command, o *lakeOptions) {
	f := cmd.Flags()
	f.StringVar(&o.tables, "tables", "", "parquet: only these tables, a `LIST` with commas (all)")
	f.StringVar(&o.run, "run", "", "parquet: call the run `ID` (what was drawn for the log when it was recorded)")
	f.StringArrayVar(&o.labels, "label", nil, "parquet: note `KEY=VALUE` of the runs; may be given several times")
	f.BoolVar(&o.flat, "flat", false, "parquet: files that have the run as a column, instead of a folder for each run")
	f.BoolVar(&o.text, "text", false, "parquet: the lines of calls too, as replay shows them, in the table events")
	_ = cmd.RegisterFlagCompletionFunc("tables", cobra.FixedCompletions(parquet.Tables, cobra.ShellCompDirectiveNoFileComp))
}

// changed is the first of the flags that was given, "" if none was.
func changed(cmd *cobra.Command, names []string) string {
	i := slices.IndexFunc(names, cmd.Flags().Changed)
	if i < 0 {
		return ""
	}
	return names[i]
}

// runLake exports logs to a lake. A log that cannot be exported does not keep the others
// out of it.
func runLake(cmd *cobra.Command, files []string, o *exportOptions) error {
	if n := changed(cmd, otherFlags); n != "" {
		return usagef("--to %s takes all of a log: --%s does not go with it", lakeFormat, n)
	}
	if o.out == "-" {
		return usagef("--to %s makes a folder: name it with -o DIR", lakeFormat)
	}
	if len(files) == 0 {
		files = []string{defaultLog}
	}
	po, err := o.lake.options()
	switch {
	case err != nil:
		return usageError{err}
	case po.Run != "" && len(files) > 1:
		return usagef("--run names one run, and there are %d logs", len(files))
	}
	var errs []error
	for _, name := range files {
		err := exportRun(cmd, name, o.out, po)
		if err == nil {
			continue
		}
		if cmd.Context().Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil
	}
	last := len(errs) - 1
	for _, err := range errs[:last] {
		report(cmd.ErrOrStderr(), cmd, err)
	}
	return errs[last]
}

// options are what the flags say.
func (o *lakeOptions) options() (po parquet.Options, err error) {
	po = parquet.Options{Run: o.run, Flat: o.flat, Text: o.text, Labels: map[string]string{}, Recorder: versionLine()}
	if po.Tables, err = parquet.ParseTables(o.tables); err != nil {
		return po, err
	}
	if o.run != "" {
		if err := parquet.CheckRun(o.run); err != nil {
			return po, err
		}
	}
	for _, l := range o.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return po, fmt.Errorf("label %q: want KEY=VALUE", l)
		}
		po.Labels[k] = v
	}
	return po, nil
}

// exportRun exports one log.
func exportRun(cmd *cobra.Command, name, dir string, o parquet.Options) error {
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	o.Log = filepath.Base(name)
	if err := parquet.Export(cmd.Context(), t, dir, o); err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	return nil
}
