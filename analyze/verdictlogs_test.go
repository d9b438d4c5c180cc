package analyze_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/replay"
)

const leaksDir = "../testdata/leaks"

// TestVerdictLogs judges recordings of the programs of testdata/leaks/programs.txt, and compares
// the verdicts with a golden file. Whatever that says, no program without a leak may be called
// LEAK, and no leak none. The logs have mappings and samples alone; the head of programs.txt says
// how they were recorded.
func TestVerdictLogs(t *testing.T) {
	list, err := os.ReadFile(filepath.Join(leaksDir, "programs.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(list)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		name, truth := words[0], words[1]
		tr, err := replay.Open(filepath.Join(leaksDir, "logs", name+".mtl"), nil)
		if err != nil {
			t.Fatal(err)
		}
		last, _ := tr.Last()
		r, err := analyze.Leaks(context.Background(), tr, analyze.Options{To: last})
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		v := &r.Verdict
		fmt.Fprintf(&got, "%-16s %-14s %-5s %s\n", name, truth, v.Word, v.Kind)
		switch leak := truth != "none" && truth != "open"; {
		case truth == "none" && v.Word == "leak", truth == "open" && v.Word == "leak", leak && v.Word == "none", v.Word == "short":
			t.Errorf("%s, whose truth is %s: %s", name, truth, v.Text)
		}
	}
	golden := filepath.Join(leaksDir, "verdicts.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("%s differs: go test -update after a look; got\n%s", golden, got.String())
	}
}

// TestNothingWrongThatGrew: where nothing went wrong, the sentence tells of memory that grew by
// much to the end, and of no other.
func TestNothingWrongThatGrew(t *testing.T) {
	for name, want := range map[string]string{
		"bigbuf": " Memory in use grew by 141.7 MiB to the end, which may be no leak.", "go-lru": " Memory in use grew by 75.1 MiB to the end, which may be no leak.",
		"flat": "", "arenas": "", "steps": "", "page-cache": "", "python-cycles": "",
	} {
		tr, err := replay.Open(filepath.Join(leaksDir, "logs", name+".mtl"), nil)
		if err != nil {
			t.Fatal(err)
		}
		last, _ := tr.Last()
		r, err := analyze.Findings(context.Background(), tr, analyze.Options{To: last, Log: "log"})
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		x := &r.Rows[0]
		_, said, _ := strings.Cut(x.Text, " s.")
		if x.Kind != "none" || said != want || want != "" && x.Then != "memtrace report log leaks" {
			t.Errorf("%s: %+v", name, *x)
		}
	}
}
