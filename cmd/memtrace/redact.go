package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/format/redact"
	"memtrace/replay"
)

// redactOptions are the flags of redact.
type redactOptions struct {
	output, rules, key string
	keep               string
	report             bool
}

func newRedactCmd() *cobra.Command {
	var o redactOptions
	cmd := &cobra.Command{
		Use:   "redact [FILE] -o OUT",
		Short: "Make a log that can be shown to others",
		Long: `redact writes a new log OUT with the classes of text and bytes of FILE that
--keep lists, and no others. Names of files that are not kept become pseudonyms,
which are equal where the names were. Steps, times, addresses and numbers of
threads stay. FILE is not touched.

OUT is read back to the last byte, and what it has of each class is counted. If
anything is there that should not be, there is no OUT. verify --redacted repeats
that.

` + classList() + `
A file of --rules has a rule on each line: "keep CLASS", "drop CLASS",
"pseudonym paths", "keep paths /usr/**", "match REGEX", which is written over in
what is kept, "shift addresses", "shift time".`,
		Example: `  memtrace redact -o public.data
  memtrace redact crash.data -o public.data --keep calls,options,system,registers
  memtrace verify --redacted public.data`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: logFiles,
		RunE:              func(cmd *cobra.Command, args []string) error { return runRedact(cmd, fileArg(args), &o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "the new log; - is standard output")
	f.StringVar(&o.keep, "keep", redact.DefaultClasses, "keep `CLASS,...` and nothing else")
	f.StringVar(&o.rules, "rules", "", "more rules, from `FILE`")
	f.BoolVar(&o.report, "report", false, "write what FILE has of each class; without -o no more than that")
	f.StringVar(&o.key, "key", "", "make pseudonyms with the key in `FILE`, which is made if there is none")
	return cmd
}

// classList is the classes for the help.
func classList() string {
	var b strings.Builder
	b.WriteString("Classes:\n")
	for c := redact.Structure + 1; c < redact.NumClasses; c++ {
		fmt.Fprintf(&b, "  %-14s  %s\n", c, c.What())
	}
	return b.String()
}

func runRedact(cmd *cobra.Command, name string, o *redactOptions) error {
	pol, err := redactPolicy(o.keep, o.rules)
	if err != nil {
		return err
	}
	if o.output == "" && !o.report {
		return usagef("say with -o where the new log goes, or --report")
	}
	f, err := openRaw(cmd, name)
	if err != nil {
		return err
	}
	defer f.close()
	r, err := format.NewReader(f, f.size, f.opt)
	if err != nil {
		return opening(name, err)
	}
	if r.Truncated() && r.Steps() <= r.First() {
		return reading(name, errNoEvent)
	}
	if o.report {
		if err := reportClasses(cmd, f, f.size, f.opt); err != nil {
			return fmt.Errorf("redact %s: %w", name, err)
		}
	}
	if o.output == "" {
		return nil
	}
	if r.Truncated() {
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: redact %s: the log has no end: what can be read of it is redacted\n", name)
	}
	key, err := redactKey(o.key)
	if err != nil {
		return err
	}
	if err := redactTo(cmd, r, f.opt, pol, key, o.output); err != nil {
		return fmt.Errorf("redact %s: %w", name, err)
	}
	return nil
}

// redactPolicy is what the flags of redact and record say.
func redactPolicy(keep, rules string) (*redact.Policy, error) {
	pol, err := redact.Keeping(keep)
	if err != nil {
		return nil, usageError{err}
	}
	if rules != "" {
		b, err := os.ReadFile(rules)
		if err != nil {
			return nil, err
		}
		if err := pol.Rules(string(b)); err != nil {
			return nil, usagef("--rules %s: %w", rules, err)
		}
	}
	if err := pol.Check(); err != nil {
		return nil, usageError{err}
	}
	return pol, nil
}

// redactKey is the key in a file, which is made if there is none; without a name it is
// a new one.
func redactKey(name string) ([]byte, error) {
	if name == "" {
		return redact.NewKey()
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := redact.NewKey()
		if err != nil {
			return nil, err
		}
		return key, os.WriteFile(name, []byte(hex.EncodeToString(key)+"\n"), 0o600)
	}
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != redact.KeySize {
		return nil, fmt.Errorf("%s has no key: want %d hexadecimal digits", name, 2*redact.KeySize)
	}
	return key, nil
}

// redactTo makes the new log under another name, and gives it its own when all is well.
func redactTo(cmd *cobra.Command, r *format.Reader, opt *format.ReaderOptions, pol *redact.Policy, key []byte, out string) error {
	var proof *redact.Proof
	var err error
	write := func(w *os.File) error {
		proof, err = redact.Make(cmd.Context(), r, opt, pol, key, w)
		return err
	}
	if out == "-" {
		err = spooled(cmd.OutOrStdout(), write)
	} else {
		err = writeNew(out, write)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s; read back: nothing else is left\n%s", pol, inventoryLines(&proof.Inventory))
	return nil
}

// spooled calls f with a file that is copied to w and removed.
func spooled(w io.Writer, f func(*os.File) error) error {
	tmp, err := os.CreateTemp("", ".memtrace-redact-")
	if err != nil {
		return err
	}
	defer func() {
		_ = tmp.Close()
		_ = os.Remove(tmp.Name())
	}()
	if err := f(tmp); err != nil {
		return err
	}
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, tmp)
	return err
}

// inventoryLines are what a log has of each class.
func inventoryLines(v *redact.Inventory) string {
	var b strings.Builder
	for c := redact.Structure + 1; c < redact.NumClasses; c++ {
		fmt.Fprintf(&b, "  %-14s  %v\n", c, v[c])
	}
	return b.String()
}

// reportClasses writes what a log has of each class.
func reportClasses(cmd *cobra.Command, f io.ReaderAt, size int64, opt *format.ReaderOptions) error {
	all, err := redact.Keeping("calls,paths,argv,data,pages,stacks-mem,registers,siginfo,mappings-names,host,system,names,auxv,options,messages")
	if err != nil {
		return err
	}
	proof, err := redact.Count(f, size, opt, all)
	if err != nil {
		return err
	}
	lines := inventoryLines(&proof.Inventory)
	if proof.Other > 0 {
		lines += fmt.Sprintf("  %-14s  %d B of packed files and the like, which are not copied\n", "others", proof.Other)
	}
	_, err = io.WriteString(cmd.OutOrStdout(), lines)
	return err
}

// redactedNote says what a log does not have that has these rules in its header.
func redactedNote(rules string) string {
	p, err := redact.FromHeader(rules)
	if err != nil {
		return "is redacted: " + replay.Escape(rules)
	}
	var gone []string
	for c := redact.Structure + 1; c < redact.NumClasses; c++ {
		if p.Kept(c) == redact.Drop {
			gone = append(gone, c.String())
		}
	}
	return "is redacted: without " + strings.Join(gone, ", ")
}
