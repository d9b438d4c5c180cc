package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay/replaytest"
)

// docs/cli.md promises what is stable: every table, event type, JSON key and
// console word must be in it.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	needs := func(what, word string) {
		t.Helper()
		if !strings.Contains(doc, "`"+word+"`") {
			t.Errorf("docs/cli.md does not name the %s `%s`", what, word)
		}
	}
	for _, r := range analyze.Reports {
		needs("table", r.Name)
	}
	for k := range format.NumKinds {
		needs("type", k.String())
	}
	for _, c := range newRoot().Commands() {
		if !strings.Contains(doc, c.Name()) {
			t.Errorf("docs/cli.md does not name the command %s", c.Name())
		}
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile(defaultLog, replaytest.Log(t), 0o600); err != nil {
		t.Fatal(err)
	}
	_, out, _ := invoke(t, "", "replay", "--json")
	for _, m := range regexp.MustCompile(`[{,]"([a-z_]+)":`).FindAllStringSubmatch(out, -1) {
		needs("key", m[1])
	}
	_, out, _ = invoke(t, "help\n", "replay", "--step")
	words := 0
	for l := range strings.Lines(out) {
		if m := regexp.MustCompile(`^([a-z]+)[, ]`).FindStringSubmatch(l); m != nil {
			needs("word", m[1])
			words++
		}
	}
	if words < 15 {
		t.Errorf("only %d words found in\n%s", words, out)
	}
}
