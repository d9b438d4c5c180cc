package web

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// hostileLog has texts that want to be something else.
func hostileLog(t *testing.T) []byte {
	const rw = addr.Read | addr.Write
	b := replaytest.New(t)
	b.Event(1, &format.Exec{Path: evil, Argv: []string{evil, "</script><script>alert(1)</script>"}, OldTID: 100},
		&format.MMNew{MM: 1}, replaytest.Map(1, replaytest.Text, 4, rw, "/tmp/"+evil), replaytest.Map(1, replaytest.Heap, 4, rw, "[heap]"),
		replaytest.Map(1, replaytest.Anon, 4, rw, "/"+strings.Repeat("n", 1<<20)), replaytest.Thread(1, 100, 100, 1, 1, 0))
	nr := uint32(257) // openat
	b.Event(1, &format.Syscall{Nr: nr, Ret: -13, Returned: true, Enter: b.Now(), Args: [6]uint64{0xffffff9c, 0x1000},
		Bufs: []format.Buf{{Arg: 1, Addr: 0x1000, Data: []byte(evil)}}})
	b.Event(0, &format.Lost{What: evil})
	b.Event(0, &format.Snapshot{MM: 1, Reason: evil})
	b.Event(1, &format.Exit{Status: 1 << 8, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	return b.Bytes()
}

const evil = "<script>alert(1)</script><!--\u202Egpj.exe\u2028\x00\x1b]0;x\x07\xff\"'&"

// TestHostile makes a report of a log with hostile texts: its JSON is whole, short, and has
// nothing in it that ends a script or turns text round.
func TestHostile(t *testing.T) {
	b, err := MakeReport(context.Background(), replay.New(replaytest.Open(t, hostileLog(t))), evil, "v", Limits{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(b) || len(b) > 200<<10 {
		t.Errorf("%d bytes of JSON, valid: %v", len(b), json.Valid(b))
	}
	if strings.ContainsAny(string(b), "<>\u2028") {
		t.Error("a text may end the script that the report is in")
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	eachText(v, func(s string) {
		if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && (steers(r) || r == 0xfffd) }); i >= 0 {
			t.Errorf("a text of the report steers: %.80q", s[max(0, i-20):])
		}
		if len(s) > mostText+8 {
			t.Errorf("a text of %d bytes: %.80q", len(s), s)
		}
	})
	if !strings.Contains(string(b), `\\u202e`) || !strings.Contains(string(b), `\u003cscript\u003e`) {
		t.Error("hostile texts are not there at all")
	}
}

// TestReport has limits kept, and said.
func TestReport(t *testing.T) {
	log := busyLog(t, 3000)
	whole, err := MakeReport(context.Background(), replay.New(replaytest.Open(t, log)), "", "v", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	limit := int64(len(whole)) / 2
	b, err := MakeReport(context.Background(), replay.New(replaytest.Open(t, log)), "", "v", Limits{Bytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err == nil || int64(len(b)) > limit {
		t.Logf("%d bytes, limit %d", len(b), limit)
	}
	var said struct{ Limits []string }
	if err := json.Unmarshal(b, &said); err != nil || len(said.Limits) != 1 || int64(len(b)) > limit {
		t.Errorf("%d bytes of %d; said %q, %v", len(b), limit, said.Limits, err)
	}
	if _, err := MakeReport(context.Background(), replay.New(replaytest.Open(t, log)), "", "v", Limits{Bytes: 100}); err == nil {
		t.Error("a report of 100 bytes")
	}
}

// eachText calls f for each text of a JSON value.
func eachText(v any, f func(string)) {
	switch v := v.(type) {
	case string:
		f(v)
	case []any:
		for _, x := range v {
			eachText(x, f)
		}
	case map[string]any:
		for _, x := range v {
			eachText(x, f)
		}
	}
}
