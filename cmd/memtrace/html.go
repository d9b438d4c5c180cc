package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"memtrace/analyze"
	"memtrace/analyze/web"
	"memtrace/replay"
)

// htmlOptions are the flags of a report in one file.
type htmlOptions struct {
	out    string
	limit  string
	memory bool
}

const htmlLimit = 4 << 20 // bytes

func (o *htmlOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.out, "html", "", "write the page of memtrace view into `FILE`, which needs no network")
	f.StringVar(&o.limit, "html-limit", "4M", "the largest `SIZE` of that file")
	f.BoolVar(&o.memory, "html-memory", false, "put memory around faults into that file, too")
}

// runHTML writes report --html.
func runHTML(cmd *cobra.Command, log string, o *htmlOptions) error {
	limit, err := parseSize(o.limit)
	if err != nil {
		return usageError{fmt.Errorf("report --html-limit: %w", err)}
	}
	t, err := openTrace(cmd, log)
	if err != nil {
		return err
	}
	defer t.Close()
	n, err := writeHTML(cmd.Context(), t, log, o.out, web.Limits{Bytes: int64(limit), Memory: o.memory})
	if err != nil {
		return fmt.Errorf("report --html %s: %w", o.out, err)
	}
	and := ""
	if o.memory {
		and = ", and memory"
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s in %s; it has the program's arguments and paths%s\n", analyze.Size(uint64(n)), o.out,
		and)
	return nil
}

// writeHTML writes a report of a log into one file, which takes the place of what was there
// once it is whole. It returns its size in bytes.
func writeHTML(ctx context.Context, t *replay.Trace, log, out string, lim web.Limits) (int, error) {
	if err := notLog(out); err != nil { // before the page is made, which may take a while
		return 0, err
	}
	if lim.Bytes > 0 { // the page takes some of it
		empty, err := web.Page(nil, "")
		if err != nil {
			return 0, err
		}
		if lim.Bytes -= int64(len(empty)); lim.Bytes <= 0 {
			return 0, fmt.Errorf("the page without a log takes %s: want a larger limit", analyze.Size(uint64(len(empty))))
		}
	}
	data, err := web.MakeReport(ctx, t, filepath.Base(log), versionLine(), lim)
	if err != nil {
		return 0, err
	}
	page, err := web.Page(data, filepath.Base(log))
	if err != nil {
		return 0, err
	}
	return len(page), writeFile(out, func(w io.Writer) error {
		_, err := w.Write(page)
		return err
	})
}
