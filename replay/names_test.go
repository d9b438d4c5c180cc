package replay

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/replay/replaytest"
)

// TestNamesNear: one line in a long log is printed with the names that the events
// before it tell, and reading all of it finds those from its beginning.
func TestNamesNear(t *testing.T) {
	b := replaytest.New(t)
	th := format.Thread{No: 1, TID: 100, TGID: 100, NSTID: 100, Proc: 1, MM: 1, Arch: arch.X86_64}
	b.Event(1, &format.Exec{Path: "/bin/prog"}, &format.MMNew{MM: 1}, &format.ThreadSet{Thread: th})
	nr := func(name string) uint32 { n, _ := arch.X86_64.Number(name); return n }
	open := func(fd int64, path string) {
		b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr("openat"), Args: [6]uint64{0xffffff9c, 0x1000}, Ret: fd, Returned: true,
			Bufs: []format.Buf{{Arg: call.BufRetName, Out: true, Addr: 3, Data: []byte(path)}}})
	}
	fsync := func(fd uint64) format.Step {
		return b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr("fsync"), Args: [6]uint64{fd}, Returned: true})
	}
	open(3, "/early")
	for range nameReach {
		fsync(3)
	}
	b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr("dup2"), Args: [6]uint64{3, 4}, Ret: 4, Returned: true})
	open(3, "/late")
	last := fsync(3)
	old := fsync(4)
	data := b.Bytes()
	r, err := format.NewReader(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(from, to format.Step) string {
		var out strings.Builder
		if err := New(r).List(context.Background(), &out, ListOptions{From: from, To: to, Set: arch.AllCalls(), AllCalls: true}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got, want := lines(last, last), "fsync(3</late>) = 0\n"; got != want {
		t.Errorf("one line: %q, want %q", got, want)
	}
	if got, want := lines(old, old), "fsync(4) = 0\n"; got != want {
		t.Errorf("a descriptor of long ago: %q, want %q", got, want)
	}
	if got, want := lines(last, old), "fsync(3</late>) = 0\nfsync(4</early>) = 0\n"; got != want {
		t.Errorf("two lines: %q, want %q", got, want)
	}
	tr := New(r)
	c := tr.Cursor()
	defer c.Close()
	if c.Printer, err = tr.Printer(0, PrintOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []format.Step{old, last, 5, old} { // forwards and back
		if err := c.Seek(n); err != nil {
			t.Fatal(err)
		}
		want := map[format.Step]string{old: "fsync(4) = 0", last: "fsync(3</late>) = 0", 5: "fsync(3</early>) = 0"}[n]
		if got := c.Line(); got != want {
			t.Errorf("step %d: %q, want %q", n, got, want)
		}
	}
}

// TestNamesBounded has the kept tables take no more than they may, and names stay right at
// every step.
func TestNamesBounded(t *testing.T) {
	b := replaytest.New(t)
	b.Event(1, &format.Exec{Path: "/tmp/prog", Argv: []string{"./prog"}, OldTID: 100},
		&format.MMNew{MM: 1}, replaytest.Map(1, replaytest.Heap, 2, addr.Read, "[heap]"), replaytest.Thread(1, 100, 100, 1, 1, 0))
	nr, _ := arch.X86_64.Number("openat")
	const events = 6 * nameStride
	for fd := range events {
		b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr, Ret: int64(3 + fd%100), Returned: true, Enter: b.Now(), Args: [6]uint64{0xffffff9c, 0x1000},
			Bufs: []format.Buf{{Arg: 1, Addr: 0x1000, Data: []byte(fmt.Sprintf("/f%d", fd))}}})
	}
	tr := New(replaytest.Open(t, b.Bytes()))
	tr.names.most = 350 // three tables
	if err := tr.Names(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(tr.names.at); n == 0 || tr.names.names > 350 || tr.names.stride <= nameStride {
		t.Errorf("%d tables with %d names, each %d steps", n, tr.names.names, tr.names.stride)
	}
	for _, n := range []format.Step{200, nameStride + 150, 3*nameStride + 1, events} {
		d, err := tr.descriptorsNear(n, nameStride)
		if err != nil {
			t.Fatal(err)
		}
		// The last call before step n was that of step n-1, the one of number n-2.
		fd := int64(n) - 2
		if got := d.name(1)(int32(3 + fd%100)); got != fmt.Sprintf("/f%d", fd) {
			t.Errorf("at step %d descriptor %d is %q", n, 3+fd%100, got)
		}
	}
}
