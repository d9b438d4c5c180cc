//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiskFull has the disk be full at many moments of each command that makes a file of a log. The log
// is untouched then, the exit status is not 0, and nothing is left, under no name.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	strace := tool(t, "strace")
	work := t.TempDir()
	log := filepath.Join(work, "log")
	tell(t, 0, "record", "-q", "-k", "-o", log, "--", tool(t, "true"))
	before, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(work, "short") // without an end
	if err := os.WriteFile(short, before[:len(before)-16], 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"pack": {"pack", log}, "redact": {"redact", log}, "cut": {"cut", log, "--from", "5"}, "recover": {"recover", short}, "dump": {"dump", log},
		"core": {"export", log, "--to", "core"}, "jsonl": {"export", log, "--to", "jsonl"}, "perfetto": {"export", log, "--to", "perfetto"}, "pprof": {"export", log, "--to", "pprof"},
	} {
		t.Run(name, func(t *testing.T) {
			place := filepath.Join(t.TempDir(), "place")
			run := func(prefix ...string) (size int64, ok bool) {
				t.Helper()
				if err := os.Mkdir(place, 0o700); err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(place)
				out := filepath.Join(place, "out")
				argv := append(append(prefix, binary()), append(args, "-o", out)...)
				said, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
				if now, rerr := os.ReadFile(log); rerr != nil || !bytes.Equal(now, before) {
					t.Fatalf("%v: the log is another now: %v", prefix, rerr)
				}
				left, rerr := os.ReadDir(place)
				if rerr != nil {
					t.Fatal(rerr)
				}
				switch {
				case err == nil && len(left) != 1:
					t.Errorf("%v: it says that it is done, and there is %v\n%s", prefix, left, said)
				case err == nil:
					files, _ := filepath.Glob(filepath.Join(out, "*")) // of dump, which makes a folder
					for _, f := range files {
						size = max(size, fileSize(t, f))
					}
					if files == nil {
						size = fileSize(t, out)
					}
					return size, true
				case len(left) > 0:
					t.Errorf("%v: %v, and left is %v\n%s", prefix, err, left, said)
				}
				return 0, false
			}
			size, ok := run()
			if !ok {
				t.Fatal("it fails on a disk with room")
			}
			moments := int64(5)
			if longRun {
				moments = 40
			}
			for i := range moments { // ulimit counts 512 bytes
				limit := size * i / moments / 512
				if _, ok := run("sh", "-c", fmt.Sprintf(`ulimit -f %d; exec "$0" "$@"`, limit)); ok {
					t.Errorf("%d bytes fit into %d", size, limit*512)
				}
			}
			for _, fault := range []string{"fsync:error=ENOSPC", "/^(rename|link)(at|at2)?$:error=ENOSPC"} {
				if name == "dump" && strings.HasPrefix(fault, "fsync") {
					continue // its files are not waited for
				}
				trace := filepath.Join(work, "strace-"+name)
				_, ok := run(strace, "-f", "-qq", "-o", trace, "-e", "inject="+fault)
				said, err := os.ReadFile(trace)
				if err != nil {
					t.Fatal(err)
				}
				if ok || !strings.Contains(string(said), "(INJECTED)") {
					t.Errorf("%s: success %v, and strace says\n%s", fault, ok, said)
				}
			}
		})
	}
}
