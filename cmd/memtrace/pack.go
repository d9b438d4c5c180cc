package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/replay"
)

// packFiles are the values of --files.
var packFiles = []string{replay.PackCode: "code", replay.PackAll: "all", replay.PackNone: "none", replay.PackStacks: "stacks"}

func newPackCmd() *cobra.Command {
	var o replay.PackOptions
	var files, out string
	var part cutOptions
	cmd := &cobra.Command{
		Use:   "pack [FILE] -o OUT",
		Short: "Put the programs' files into a log, so that it says the same on any machine",
		Long: `pack writes a log OUT that has all of FILE and the files that its programs had
mapped: code, unwind tables and symbols. Replay, reports and gdb take them from
the log, also where the programs are not, or have changed since. FILE is not
touched, and an OUT that exists is not overwritten. With --from or --to, OUT has
that part of FILE, as memtrace cut makes it.`,
		Example: `  memtrace pack -o crash.data
  memtrace pack --debug -o crash.data memtrace.data
  memtrace info crash.data`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := wordOf(files, packFiles)
			if err != nil {
				return usagef("--files: %w", err)
			}
			o.Files = replay.PackFiles(n)
			return runPack(cmd, fileArg(args), out, o, &part)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&out, "output", "o", "", "the new log; - is standard output")
	f.StringVar(&files, "files", "code", "pack `PART` of the files' contents: code, all, stacks or none")
	f.StringVar(&part.from, "from", "", "only from `STEP` on, as cut --from")
	f.StringVar(&part.to, "to", "", "only up to `STEP`")
	f.BoolVar(&o.Debug, "debug", false, "pack separate debug files, too")
	addSymbolFlags(cmd)
	if err := cmd.MarkFlagRequired("output"); err != nil {
		panic(err) // the flag is right above
	}
	return cmd
}

// wordOf is the number of a word in a list.
func wordOf(word string, list []string) (int, error) {
	for i, w := range list {
		if w == word {
			return i, nil
		}
	}
	last := len(list) - 1
	return 0, fmt.Errorf("%q is none of %s and %s", word, strings.Join(list[:last], ", "), list[last])
}

// openPart opens a part of a log as a log of its own, in a temporary file.
func openPart(cmd *cobra.Command, t *replay.Trace, o *cutOptions) (*replay.Trace, error) {
	from, to, err := cutSpan([]*replay.Trace{t}, o)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "memtrace-part-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name()) // it is open then
	_, err = replay.Cut(cmd.Context(), f, []*replay.Trace{t}, from, to, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return openTrace(cmd, f.Name())
}

func runPack(cmd *cobra.Command, name, out string, o replay.PackOptions, part *cutOptions) error {
	t, err := openTrace(cmd, name)
	if err != nil {
		return err
	}
	defer t.Close()
	if part.from != "" || part.to != "" {
		if t, err = openPart(cmd, t, part); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		defer t.Close()
	}
	if t.Header().Redacted != "" {
		return fmt.Errorf("pack %s: the log is redacted, and files would bring back what was taken out", name)
	}
	var list []replay.MappedFileInfo
	var info *format.Info
	err = writeWhole(cmd, out, func(w io.Writer) error {
		var err error
		list, info, err = t.Pack(cmd.Context(), w, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("pack %s: %w", name, err)
	}
	packed, bytes, debug := 0, uint64(0), 0
	for _, f := range list {
		bytes += f.Packed
		switch {
		case f.Named:
			packed++
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: packed for its names only: %s\n", replay.Escape(f.Missing))
		case f.Packed > 0:
			packed++
		case f.Missing != "":
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: not packed: %s\n", replay.Escape(f.Missing))
		case f.Debug:
			debug++
		}
	}
	if debug > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s that give names and lines here can be packed too (--debug)\n", count(uint64(debug), "debug file"))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s (%s) packed, %s in %s\n", count(uint64(packed), "file"), size(int64(bytes)), size(info.Size), out)
	return nil
}
