package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"memtrace/analyze"
	"memtrace/format/arch"
	"memtrace/replay"
)

// What the shell's completion offers for the values of flags. It says nothing where it
// finds nothing: completion must not fail.

type completer = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// completers are those of flags, by name, of all commands that have such a flag.
var completers = map[string]completer{
	"trace":    listOf(callSets),
	"snapshot": listOf(func() []string { return snapshotWords }),
	"type":     listOf(eventTypes),
	"pid":      completePID,
	"attach":   completeLiving, // -p of record and top
	"process":  completeLiving, // of dump
	"sort":     completeColumn,
	"align":    listOf(func() []string { return analyze.Aligns }),
	"format":   listOf(func() []string { return []string{"table", "json", "csv", "markdown"} }),
}

var snapshotWords = []string{"exec", "exit", "signal", "every=", "interval=", "syscall=", "step", "none", "default"}

// addCompletions gives a command and those below it their completions.
func addCompletions(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		of, ok := completers[f.Name]
		if _, has := c.GetFlagCompletionFunc(f.Name); ok && !has {
			_ = c.RegisterFlagCompletionFunc(f.Name, of)
		}
	})
	for _, sub := range c.Commands() {
		addCompletions(sub)
	}
}

// withoutBackquotes takes the marks of arguments out of the descriptions of flags, which
// completion shows as they are.
func withoutBackquotes(c *cobra.Command) {
	strip := func(f *pflag.Flag) { f.Usage = strings.ReplaceAll(f.Usage, "`", "") }
	c.Flags().VisitAll(strip)
	c.PersistentFlags().VisitAll(strip)
	for _, sub := range c.Commands() {
		withoutBackquotes(sub)
	}
}

// listOf completes the last word of a list with commas.
func listOf(words func() []string) completer {
	return func(_ *cobra.Command, _ []string, typed string) (out []string, _ cobra.ShellCompDirective) {
		done := typed[:strings.LastIndexByte(typed, ',')+1]
		for _, w := range words() {
			out = append(out, done+w)
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// callSets are the words of -e: classes, and the calls of x86_64.
func callSets() []string {
	out := append([]string{"all", "none"}, arch.Classes()...)
	for _, c := range arch.X86_64.Syscalls() {
		out = append(out, c.Name)
	}
	return out
}

// completePID offers the processes of the log.
func completePID(_ *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	t, err := replay.Open(argLog(args), nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer t.Close()
	lives, err := t.Lives(context.Background())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for i := range lives {
		out = append(out, strconv.FormatUint(uint64(lives[i].PID), 10)+"\t"+lives[i].Name())
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// argLog is the log that arguments name, of which others are tables.
func argLog(args []string) string {
	for _, a := range args {
		if _, err := analyze.Find(a); err != nil || exists(a) {
			return a
		}
	}
	return defaultLog
}

// completeLiving offers the processes that live.
func completeLiving(_ *cobra.Command, _ []string, typed string) (out []string, _ cobra.ShellCompDirective) {
	done := typed[:strings.LastIndexByte(typed, ',')+1]
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil {
			out = append(out, done+filepath.Base(filepath.Dir(name))+"\t"+strings.TrimSpace(string(comm)))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// mostCompleted is the size of the largest log that is read for a completion.
const mostCompleted = 64 << 20

// completeColumn offers the columns of the first table that the arguments name.
func completeColumn(_ *cobra.Command, args []string, _ string) (out []string, _ cobra.ShellCompDirective) {
	none := cobra.ShellCompDirectiveNoFileComp
	i := slices.IndexFunc(args, func(a string) bool { _, err := analyze.Find(a); return err == nil })
	name := argLog(args)
	fi, err := os.Stat(name)
	if i < 0 || err != nil || fi.Size() > mostCompleted {
		return nil, none
	}
	r, err := analyze.Find(args[i])
	if err != nil {
		return nil, none
	}
	t, err := replay.Open(name, nil)
	if err != nil {
		return nil, none
	}
	defer t.Close()
	last, _ := t.Last()
	s, err := r.Make(context.Background(), t, analyze.Options{To: last})
	if err != nil {
		return nil, none
	}
	for _, c := range s.Columns {
		out = append(out, c.Key+"\t"+c.Title)
	}
	return out, none
}
