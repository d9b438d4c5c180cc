// Package recordtest decides what a test does on a machine that lacks something,
// for the tests of what needs Linux, its tools or its privileges.
package recordtest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Require skips a test on a machine without what: err says why it is not there.
// $MEMTRACE_REQUIRE lists what a machine has ("ptrace,gcc", or "all"). There a
// skipped test would hide a failure, so the test fails instead.
func Require(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if required(os.Getenv("MEMTRACE_REQUIRE"), what) {
		t.Fatalf("%s is required here: %v", what, err)
	}
	t.Skipf("no %s: %v", what, err)
}

func required(list, what string) bool {
	names := strings.Split(list, ",")
	return slices.Contains(names, what) || slices.Contains(names, "all")
}
