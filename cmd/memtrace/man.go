package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newManCmd() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [COMMAND]",
		Short: "Write the manual page of memtrace or of a command",
		Long: `man writes a manual page in troff, made from the same texts as --help. With -o it
writes those of all commands into a folder.`,
		Example: "  memtrace man replay | man -l -\n  memtrace man -o /usr/local/share/man/man1",
		Args:    cobra.MaximumNArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
			for _, c := range cmd.Root().Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if dir != "" {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				return writeManPages(root, dir)
			}
			c := root
			if len(args) > 0 {
				var err error
				if c, _, err = root.Find(args); err != nil || c == root {
					return usagef("no command %q", args[0])
				}
			}
			return manPage(cmd.OutOrStdout(), c)
		},
	}
	cmd.Flags().StringVarP(&dir, "output", "o", "", "write the pages of all commands into `DIR`")
	return cmd
}

func writeManPages(c *cobra.Command, dir string) error {
	f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
	if err != nil {
		return err
	}
	err = manPage(f, c)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := writeManPages(sub, dir); err != nil {
			return err
		}
	}
	return nil
}

// manPage writes one page (man(7)).
func manPage(w io.Writer, c *cobra.Command) error {
	var b strings.Builder
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"memtrace\" \"memtrace manual\"\n", strings.ToUpper(name))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", roff(name), roff(c.Short))
	if !c.HasParent() {
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				manSynopsis(&b, sub)
			}
		}
	} else {
		manSynopsis(&b, c)
	}
	b.WriteString(".SH DESCRIPTION\n")
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	for para := range strings.SplitSeq(text, "\n\n") {
		// Indented lines are lists: they keep their line ends.
		if strings.HasPrefix(para, "  ") {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(para))
			continue
		}
		fmt.Fprintf(&b, ".PP\n%s\n", roff(para))
	}
	manFlags(&b, c.NonInheritedFlags())
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(sub.Name()), roff(sub.Short))
			}
		}
	}
	manEnd(&b, c)
	_, err := io.WriteString(w, b.String())
	return err
}

// manSynopsis writes a line for each way to call a command.
func manSynopsis(b *strings.Builder, c *cobra.Command) {
	for use := range strings.SplitSeq(c.Use, " | ") {
		_, args, _ := strings.Cut(use, " ")
		flags := ""
		if c.HasAvailableFlags() && !strings.Contains(args, "[flags]") {
			flags = "[flags] "
		}
		fmt.Fprintf(b, ".B %s\n", roff(c.CommandPath()))
		if args = strings.TrimSpace(flags + args); args != "" {
			b.WriteString(roff(args) + "\n")
		}
		b.WriteString(".br\n")
	}
}

// manFlags writes the flags, with their defaults.
func manFlags(b *strings.Builder, fs *pflag.FlagSet) {
	if !fs.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH OPTIONS\n")
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		arg, usage := pflag.UnquoteUsage(f)
		b.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(b, "\\fB\\-%s\\fR, ", f.Shorthand)
		}
		fmt.Fprintf(b, "\\fB\\-\\-%s\\fR", roff(f.Name))
		if arg != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", roff(arg))
		}
		fmt.Fprintf(b, "\n%s", roff(usage))
		switch f.DefValue {
		case "", "0", "false", "[]", "0s":
		default:
			if !strings.Contains(usage, "(default") {
				fmt.Fprintf(b, " (default %s)", roff(f.DefValue))
			}
		}
		b.WriteByte('\n')
	})
}

// manEnd writes the sections that all pages end with.
func manEnd(b *strings.Builder, c *cobra.Command) {
	b.WriteString(".SH EXIT STATUS\n0 for success, 1 for a failure, 2 for a mistake in the command line, " +
		"3 for a damaged log, 4 for memory that is not in the log.\n" +
		".B memtrace record\nhas the status of the program it ran.\n" +
		".SH FILES\n" +
		".TP\n.I memtrace.data\nthe log that is written and read if none is named\n" +
		".TP\n.I $XDG_STATE_HOME/memtrace/history\nwhat was typed in the console\n" +
		".TP\n.I $XDG_CACHE_HOME/memtrace/debuginfod\nfiles from servers (\\-\\-debuginfod)\n" +
		".SH SEE ALSO\n")
	var also []string
	if c.HasParent() {
		also = append(also, "memtrace")
	}
	for _, sub := range c.Root().Commands() {
		if sub.IsAvailableCommand() && sub != c {
			also = append(also, "memtrace-"+sub.Name())
		}
	}
	for _, name := range append(also, "strace", "gdb") {
		fmt.Fprintf(b, ".BR %s (1),\n", roff(name))
	}
	b.WriteString(".BR ptrace (2),\n.BR proc (5)\n")
}

// roff escapes text for troff.
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
