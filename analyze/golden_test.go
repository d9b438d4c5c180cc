package analyze_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// childPID is the child of the recorded program.
const childPID = 32400

// written is every report of a log in one format, each below its name.
func written(t *testing.T, tr *replay.Trace, f analyze.Format, o analyze.Options) string {
	t.Helper()
	var b bytes.Buffer
	for i := range analyze.Reports {
		r := &analyze.Reports[i]
		fmt.Fprintf(&b, "=== %s\n", r.Name)
		res, err := r.Make(context.Background(), tr, o)
		if err != nil {
			fmt.Fprintf(&b, "error: %v\n", err)
			continue
		}
		if err := res.Write(&b, f); err != nil {
			t.Errorf("%s as %s: %v", r.Name, f, err)
		}
	}
	return b.String()
}

// TestRecorded writes all reports of a recorded log, and of one with every kind
// of record, in all formats and with the options that change how they look.
func TestRecorded(t *testing.T) {
	rec, err := replay.Open("testdata/recorded.mtl", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	for name, tr := range map[string]*replay.Trace{"recorded": rec, "every": replay.New(Open(t, Every(t))), "refs": replay.New(Open(t, RefLog(t)))} {
		all, _ := tr.Last()
		for _, f := range analyze.Formats {
			golden(t, name+"."+string(f), written(t, tr, f, analyze.Options{To: all}))
		}
		info, err := analyze.Info(context.Background(), tr, "the.log", false)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, f := range analyze.Formats {
			if err := info.Sheet().Write(&b, f); err != nil {
				t.Error(err)
			}
			b.WriteByte('\n')
		}
		golden(t, name+".info", b.String())
	}
	last, _ := rec.Last()
	at := format.Step(60)
	golden(t, "recorded.narrow", written(t, rec, analyze.Table, analyze.Options{To: last, Width: 80, ASCII: true}))
	golden(t, "recorded.top", written(t, rec, analyze.Table, analyze.Options{To: last, Top: 2}))
	golden(t, "recorded.at", written(t, rec, analyze.Table, analyze.Options{From: 20, To: 90, At: &at}))
	golden(t, "recorded.pid", written(t, rec, analyze.JSON, analyze.Options{To: last, PID: childPID}))
	golden(t, "recorded.sorted", sorted(t, rec, last))
	r, err := analyze.Find("timeline")
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Make(context.Background(), rec, analyze.Options{To: last, Sort: "rss", ASCII: true})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := res.Write(&b, analyze.Table); err != nil {
		t.Error(err)
	}
	golden(t, "recorded.timeline-by-rss", b.String())
}

// TestLiving lays out what only a living process tells.
func TestLiving(t *testing.T) {
	tr := replay.New(Open(t, Log(t)))
	v, err := tr.At(5)
	if err != nil {
		t.Fatal(err)
	}
	p, err := tr.Find(context.Background(), v, 100)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Space()
	if err != nil {
		t.Fatal(err)
	}
	smaps := "555555554000-555555558000 r-xp 00000000 08:01 109 /tmp/prog\nSize: 16 kB\nRss: 4 kB\nVmFlags: rd ex\n" +
		"555555558000-55555555c000 rw-p 00000000 00:00 0 [heap]\nSize: 16 kB\nRss: 12 kB\nPss: 8 kB\nPrivate_Dirty: 4 kB\nShared_Dirty: 4 kB\nSwap: 2 kB\nLocked: 1 kB\n"
	for want, val := range map[string]analyze.Value{
		"size,rss,pss,dirty,swap,locked,start,perms,kind,part,path\n" +
			"16384,12288,8192,8192,2048,1024,0x555555558000,rw-p,heap,,[heap]\n" +
			"16384,4096,0,0,0,0,0x555555554000,r-xp,file private,,/tmp/prog\n": analyze.Smaps([]byte(smaps), v, s),
		"key,bytes\nRss,4096\nPss,2048\n":                                                                          analyze.Sampled([]byte("Rss: 4 kB\nPss: 2 kB\n"), 3),
		"group,key,bytes,share\nfree,MemTotal,4096,100\n,MemFree,2048,50\n":                                        analyze.SystemAt([]byte("MemTotal: 4 kB\nMemFree: 2 kB\n"), 3),
		"kind,mappings,bytes\nanonymous private,2,65536\nheap,1,16384\nmain stack,1,16384\nfile private,1,16384\n": analyze.Kinds(s),
	} {
		var b strings.Builder
		if err := val.Sheet().Write(&b, analyze.CSV); err != nil {
			t.Error(err)
		}
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", b.String(), want)
		}
		if err := val.Sheet().Write(&b, analyze.Table); err != nil {
			t.Error(err)
		}
	}
}

// sorted is every report by each of its columns.
func sorted(t *testing.T, tr *replay.Trace, last format.Step) string {
	t.Helper()
	var b bytes.Buffer
	for i := range analyze.Reports {
		r := &analyze.Reports[i]
		_, err := r.Make(context.Background(), tr, analyze.Options{To: last, Sort: "no such column"})
		if err == nil {
			t.Errorf("%s: sorted by a column that is not there", r.Name)
			continue
		}
		_, keys, _ := strings.Cut(err.Error(), "want ")
		fmt.Fprintf(&b, "=== %v\n", err)
		if r.Name == "system" {
			continue // long
		}
		for _, k := range strings.Split(keys, ", ") {
			res, err := r.Make(context.Background(), tr, analyze.Options{To: last, Sort: "-" + k, Top: 3})
			if err != nil {
				t.Errorf("%s by %s: %v", r.Name, k, err)
				continue
			}
			fmt.Fprintf(&b, "=== %s --sort -%s\n", r.Name, k)
			if err := res.Write(&b, analyze.CSV); err != nil {
				t.Error(err)
			}
		}
	}
	return b.String()
}
