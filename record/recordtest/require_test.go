package recordtest

import (
	"errors"
	"testing"
)

func TestRequired(t *testing.T) {
	for _, c := range []struct {
		list, what string
		want       bool
	}{
		{"", "gcc", false},
		{"gcc", "gcc", true},
		{"ptrace,gcc,m32", "gcc", true},
		{"ptrace,gcc-multilib", "gcc", false},
		{"all", "gcc", true},
	} {
		if got := required(c.list, c.what); got != c.want {
			t.Errorf("%q of %q: %v", c.what, c.list, got)
		}
	}
}

func TestRequireSkips(t *testing.T) {
	t.Setenv("MEMTRACE_REQUIRE", "ptrace")
	ran := false
	t.Run("without", func(t *testing.T) {
		defer func() { ran = t.Skipped() }()
		Require(t, "gcc", errors.New("not found"))
		t.Error("the test went on without gcc")
	})
	if !ran {
		t.Error("a test that lacks what nobody promised was not skipped")
	}
}
