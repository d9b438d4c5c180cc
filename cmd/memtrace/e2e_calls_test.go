//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"memtrace/analyze/export"
)

// TestCallBytes asks in all ways for what a call wrote, in a log without snapshots.
func TestCallBytes(t *testing.T) {
	t.Parallel()
	require(t, "ptrace", tracing())
	p := newPlace(t)
	hay := filepath.Join(p.dir, "hay")
	if err := os.WriteFile(hay, []byte("some text, a needle in a file, more text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	head := tool(t, "head")
	if o := p.execute(t, patience, nil, binary(), "record", "-q", "--snapshot", "none", "-o", p.log(), "--", head, "-c", "41", hay); o.status != 0 {
		t.Fatal(o)
	}
	out, _ := memtraceRun(t, "replay", p.log(), "--find", "a needle", "--json")
	var found struct {
		Addr     string
		From, To int
	}
	if err := json.Unmarshal([]byte(strings.Split(out, "\n")[0]), &found); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	at, then := fmt.Sprint(found.From), fmt.Sprint(found.From+1)
	for _, c := range []struct {
		args       string
		want, said string // on stdout and stderr
	}{
		{"--mem " + found.Addr + ":18 --at " + at, "|a needle in a fi|", ""},
		{"--mem " + found.Addr + ":18 --at " + then, "|a needle in a fi|", "as of step " + at + ", whose call wrote it"},
		{"--mem " + found.Addr + ":8 --at " + then + " --json", `"as_of":` + at + `,"exact":false,"source":"call",`, ""},
		{"--history " + found.Addr + ":8", "steps " + at + ".." + fmt.Sprint(found.To) + " (exact, read): 61 20 6e 65 65 64 6c 65 |a needle|", ""},
		{"--history " + found.Addr + ":8 --json", `"call":"read"`, ""},
		{"--diff " + fmt.Sprint(found.From-1) + ".." + at, "captured: 1 in ", ""},
		{"--path */" + filepath.Base(hay) + " -e read --no-steps", "read(3<" + hay, ""},
		{"--path nowhere -e read", "", ""},
		{"--from " + at + " --to " + at, `<` + hay + `>, "some text, a needle in a file, m"..., 41) = 41`, ""},
	} {
		out, said := memtraceRun(t, append([]string{"replay", p.log()}, strings.Fields(c.args)...)...)
		if !strings.Contains(out, c.want) || !strings.Contains(said, c.said) || c.said == "" && said != "" {
			t.Errorf("replay %s: %s%s", c.args, out, said)
		}
	}

	dir := filepath.Join(p.dir, "dump")
	memtraceRun(t, "dump", p.log(), "--at", at, "-o", dir)
	b, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var x export.Index
	if err := json.Unmarshal(b, &x); err != nil {
		t.Fatal(err)
	}
	held := false
	for _, r := range x.Ranges {
		for _, k := range r.Known {
			held = held || k.Call && fmt.Sprint(*k.AsOf) == at
		}
		if b, err := os.ReadFile(filepath.Join(dir, r.File)); r.File != "" && err == nil && strings.Contains(string(b), "a needle in a file") && !held {
			t.Errorf("the dump does not say that a call wrote it: %+v", r)
		}
	}
	if !held {
		t.Error("it is not in the dump")
	}

	tool(t, "gdb")
	core := filepath.Join(p.dir, "core")
	memtraceRun(t, "export", p.log(), "--to", "core", "--at", at, "-o", core)
	if out := gdb(t, head, core, "x/s "+found.Addr, "x/c "+found.Addr+"+30"); !strings.Contains(out, `a needle in a file, more text\n"<error: Cannot access`) {
		t.Errorf("gdb said %s", out)
	}
}
