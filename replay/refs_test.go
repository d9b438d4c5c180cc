package replay

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/replay/replaytest"
)

func refLines(t *testing.T, tr *Trace, o RefListOptions) []string {
	t.Helper()
	var b strings.Builder
	if err := tr.ListRefs(context.Background(), &b, o); err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func TestListRefs(t *testing.T) {
	tr := New(replaytest.Open(t, replaytest.RefLog(t)))
	last, _ := tr.Last()
	all := refLines(t, tr, RefListOptions{To: last})
	for _, want := range []string{
		"     0 [pid 100] --- phase 1: 8 blocks of 4 KiB (prot) ---",
		"     0 [pid 100] x 0x555555554000 prog+0x0 by prog+0x10 phase 1",
		"     0 [pid 100] w 0x555555558000 [heap]+0x0 by prog+0x14 phase 1",
		"     0 [pid 100] --- phase 2: 8 blocks of 4 KiB (prot), 7 pages written before ---",
		"     2 [pid 102] ? 0x7ffffffdf000 [stack]+0x1000 by prog+0x20 phase 13",
		"     4 [pid 101] w 0x7ffffffde000 [stack]+0x0 by prog+0x24 phase 1",
		"     4 [pid 100] r 0x55555558a000 [heap]+0x32000 phase 17",
		"     6 [pid 102] r 0x555555581000 [heap]+0x29000 by prog+0x28 phase 17",
	} {
		if !slices.Contains(all, want) {
			t.Errorf("no line %q in\n%s", want, strings.Join(all, "\n"))
		}
	}
	// What the steps have one by one is what all have together.
	var parts []string
	for n := range tr.Steps() {
		if some := refLines(t, tr, RefListOptions{From: n, To: n}); some[0] != "" {
			parts = append(parts, some...)
		}
	}
	if !slices.Equal(parts, all) {
		t.Errorf("%d lines one by one, %d together", len(parts), len(all))
	}
	if child := refLines(t, tr, RefListOptions{To: last, PID: 101}); len(child) != 4 {
		t.Errorf("%q", child)
	}
	if err := tr.ListRefs(context.Background(), new(strings.Builder), RefListOptions{To: last, PID: 4}); err == nil {
		t.Error("no error for a process that is not there")
	}
	js := refLines(t, tr, RefListOptions{To: last, JSON: true})
	if len(js) != len(all) {
		t.Errorf("%d objects for %d lines", len(js), len(all))
	}
	refs := uint64(0)
	for i, l := range js {
		var x struct {
			Step, No, Phase, Time uint64
			Type, Kind, Page, IP  string
			TID                   uint32
		}
		if err := json.Unmarshal([]byte(l), &x); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		if x.Type == "ref" {
			if x.No != refs || x.Phase == 0 || !strings.HasPrefix(x.Page, "0x") || !strings.Contains(all[i], "] "+x.Kind+" ") || x.TID < 100 {
				t.Errorf("%s\n%s", l, all[i])
			}
			refs++
		}
	}
	if refs != tr.Info().Refs {
		t.Errorf("%d references of %d", refs, tr.Info().Refs)
	}
}

func TestNoRefs(t *testing.T) {
	tr := New(replaytest.Open(t, replaytest.Log(t)))
	if err := tr.ListRefs(context.Background(), new(strings.Builder), RefListOptions{}); err == nil || !strings.Contains(err.Error(), "--page-trace") {
		t.Errorf("%v", err)
	}
	for m, err := range tr.Refs(context.Background(), 0, format.NoStep) {
		t.Errorf("%+v %v", m, err)
	}
}
