package replay_test

import (
	"context"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// TestNamesInExpressions: a name may have a sign in it, or look like a number.
func TestNamesInExpressions(t *testing.T) {
	at := func(i int) addr.Addr { return Anon + addr.Addr(i)<<20 }
	b := New(t)
	names := []string{"/lib/libstdc++.so.6", "/bin/face", "/bin/4add", "/lib/libc-2.31.so", "/opt/a+b*c-d/x", "/bin/0x10", "/bin/12", "/bin/4K", "/dev/shm/c+8"}
	changes := []format.Change{&format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Heap, 1, 3, "[heap]")}
	for i, n := range names {
		changes = append(changes, Map(1, at(i), 1, 5, n))
	}
	b.Event(1, &format.Exec{Path: "/bin/face"}, changes...)
	tr := replay.New(Open(t, b.Bytes()))
	v, err := tr.At(0)
	if err != nil {
		t.Fatal(err)
	}
	space, ok := v.Space(1)
	if !ok {
		t.Fatal("no space")
	}
	scope := replay.Scope{Space: space, Vars: map[string]uint64{"n": 3, "i++": 7}}
	for in, want := range map[string]addr.Addr{
		"libstdc++.so.6": at(0), "libstdc++.so.6+0x10": at(0) + 16, "/lib/libstdc++.so.6+16": at(0) + 16,
		"face": at(1), "0xface": 0xface, "face+0xf": at(1) + 15, "cafe": 0xcafe, "4add": at(2), "0x4add": 0x4add, "4ade": 0x4ade,
		"libc-2.31.so": at(3), "libc-2.31.so+4": at(3) + 4, "/opt/a+b*c-d/x": at(4), "/opt/a+b*c-d/x+10": at(4) + 10,
		"0x10": 16, "12": 12, "4K": 4096, "/bin/12": at(6), "c+8": at(8), "c+9": 0xc + 9, "c+8+1": at(8) + 1, "heap+face": Heap + 0xface,
	} {
		if got, err := replay.ParseAddr(in, space); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
		if in == "heap+face" { // an offset is a number, but a sum may have names on both sides
			want = Heap + at(1)
		}
		if got, err := scope.Eval(in); err != nil || addr.Addr(got) != want {
			t.Errorf("%s as an expression: %#x, %v; want %v", in, got, err, want)
		}
		if in == "heap+face" {
			continue
		}
		r, err := tr.ParseHistory(context.Background(), in+":16", 0)
		if err != nil || r.Start != want || r.Len() != 16 {
			t.Errorf("history of %s: %v, %v; want %v", in, r, err, want)
		}
	}
	for in, want := range map[string]uint64{
		"10-3-2": 5, "10-3+2": 9, "2+3*4": 14, "2*3*4": 24, "n*n-n": 6, "i++": 7, "i+++1": 8, "libstdc++.so.6*2": 2 * uint64(at(0)),
		"libstdc++.so.6-libc-2.31.so": uint64(at(0)) - uint64(at(3)), "1+libstdc++.so.6+n*2": uint64(at(0)) + 7,
	} {
		if got, err := scope.Eval(in); err != nil || got != want {
			t.Errorf("%s: %#x, %v; want %#x", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"": "missing", "heap+": "missing", "1+nope": `"nope" is no`, "nope+1": `"nope" is no`, "n*": "missing", strings.Repeat("y+", 400) + "1": "is not a number"} {
		if n, err := scope.Eval(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d, %v; want an error with %q", in, n, err, want)
		}
	}
}
