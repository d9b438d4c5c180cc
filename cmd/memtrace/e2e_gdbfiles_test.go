//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// loading has its code in a library that it maps late.
const loading = `#include <dlfcn.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	(void)argc;
	usleep(10000);
	int (*f)(int *) = (int (*)(int *))dlsym(dlopen(argv[1], RTLD_NOW), "late");
	return f((int *)8);
}
`

// afar is what gdb says of files that it reads from the other end.
const afar = "from remote target"

// TestGDBFiles: gdb reads files by itself that are here and surely the ones that ran, and says nothing then of
// files from afar. A file that is another one by now is never taken for the one that ran.
func TestGDBFiles(t *testing.T) {
	require(t, "ptrace", tracing())
	tool(t, "gdb")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	build := func(to, text string, flags ...string) {
		t.Helper()
		if err := os.WriteFile(at("a.c"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(tool(t, "gcc"), append(append([]string{"-g", "-O0"}, flags...), "-o", at(to), at("a.c"))...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	const late = "int late(int *p) { return *p; }\n"
	build("late.so", late, "-shared", "-fPIC")
	build("prog", loading, "-ldl")
	log, packed := at("log"), at("packed")
	_ = exec.Command(binary(), "record", "-k", "-q", "-o", log, "--", at("prog"), at("late.so")).Run() // it dies of a signal
	if out, err := exec.Command(binary(), "pack", "-o", packed, log).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	type want struct {
		quiet  bool
		frames string
	}
	look := func(what, log string, flags []string, w want) string {
		t.Helper()
		out := inGDB(t, flags, log, "goto-step crash", "bt", "info sharedlibrary")
		a := gdbAnswers(out)
		if quiet := !strings.Contains(out, afar) && !strings.Contains(out, "slow"); quiet != w.quiet {
			t.Errorf("%s: quiet is %v:\n%s", what, quiet, out)
		}
		if got := strings.Join(gdbFrames(a[1]), " "); !strings.HasPrefix(got, w.frames) {
			t.Errorf("%s: %q, want %q\n%s", what, got, w.frames, out)
		}
		return out
	}
	const both = "late (p=0x8) main ("
	look("all is here", log, nil, want{true, both})
	look("all is here, and packed", packed, nil, want{true, both})
	look("with other symbols", log, []string{"--symbols", dir}, want{false, both})

	// The library is another one by now. Where it is mapped from the begin on gdb asks for all files; where it
	// is mapped later, for that one, if the log has it.
	if err := os.Rename(at("late.so"), at("old.so")); err != nil {
		t.Fatal(err)
	}
	build("late.so", "int other(int *p) { return *p + 1; }\n"+late+"int wrong(int *p) { return 5 * *p; }\n", "-shared", "-fPIC")
	for _, flags := range [][]string{nil, {"--at", "50%"}} {
		out := look("the library is another", log, flags, want{flags != nil, ""})
		if strings.Contains(out, "wrong (") || strings.Contains(out, "other (") || strings.Contains(out, "late (") {
			t.Errorf("%q: a library that did not run has names:\n%s", flags, out)
		}
		out = look("the library is another, and packed", packed, flags, want{false, both})
		if flags != nil && strings.Contains(out, "target:"+at("prog")) {
			t.Errorf("%q: gdb asks for what is here:\n%s", flags, out)
		}
	}
	if err := os.Remove(at("prog")); err != nil {
		t.Fatal(err)
	}
	look("the program is gone, and packed", packed, nil, want{false, both})
}
