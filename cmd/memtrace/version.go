package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"memtrace/format"
)

// release is set by release builds: -ldflags "-X main.release=1.2.3".
var release = ""

// version is the release, or the commit that the binary was built from.
func version() string {
	if release != "" {
		return release
	}
	if rev := commit(); rev != "" {
		return "devel-" + rev
	}
	return "devel"
}

// commit is the commit that the binary was built from, with a + if files were changed,
// as far as the Go command knew; "" if it did not.
func commit() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	rev, dirty := "", ""
	for _, s := range bi.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			rev = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+"
		}
	}
	if rev == "" {
		return ""
	}
	return rev + dirty
}

// versionLine is what version and --version say.
func versionLine() string {
	v := version()
	if rev := commit(); release != "" && rev != "" {
		v += " (commit " + rev + ")"
	}
	return fmt.Sprintf("memtrace %s, log format %d.%d, %s %s/%s", v, format.Major, format.Minor, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func newVersionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of memtrace, and of the logs that it reads",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}
