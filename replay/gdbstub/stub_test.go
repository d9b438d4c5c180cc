package gdbstub

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
	rt "memtrace/replay/replaytest"
)

// client speaks to a stub as gdb does.
type client struct {
	t    *testing.T
	c    net.Conn
	r    *bufio.Reader
	done chan error
}

func dial(t *testing.T, tr *replay.Trace, o Options) *client {
	t.Helper()
	s, err := New(context.Background(), tr, o)
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, s)
}

// connect is a client of a session.
func connect(t *testing.T, s *Session) *client {
	t.Helper()
	here, there := net.Pipe()
	c := &client{t, here, bufio.NewReader(here), make(chan error, 1)}
	go func() {
		c.done <- s.Serve(context.Background(), there)
		there.Close()
	}()
	t.Cleanup(func() {
		here.Close()
		<-c.done
	})
	if got := c.ask("QStartNoAckMode"); got != "OK" {
		t.Fatalf("no acknowledgments: %q", got)
	}
	return c
}

// ask sends a packet and returns the answer that is no console text.
func (c *client) ask(p string) string {
	c.t.Helper()
	text, answer := c.both(p)
	_ = text
	return answer
}

// both also returns the console text.
func (c *client) both(p string) (text, answer string) {
	c.t.Helper()
	sum := byte(0)
	for i := range len(p) {
		sum += p[i]
	}
	if _, err := fmt.Fprintf(c.c, "$%s#%02x", p, sum); err != nil {
		c.t.Fatal(err)
	}
	for {
		line, err := c.r.ReadString('#')
		if err != nil {
			c.t.Fatalf("%s: %v", p, err)
		}
		if _, err := c.r.Discard(2); err != nil {
			c.t.Fatal(err)
		}
		line = strings.TrimSuffix(line[strings.IndexByte(line, '$')+1:], "#")
		if said, ok := strings.CutPrefix(line, "O"); ok && line != "OK" {
			b, _ := hex.DecodeString(said)
			text += string(b)
			continue
		}
		return text, line
	}
}

// monitor is the text of a monitor command.
func (c *client) monitor(command string) string {
	c.t.Helper()
	b, err := hex.DecodeString(c.ask("qRcmd," + hex.EncodeToString([]byte(command))))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

const (
	page = addr.PageSize
	sp   = rt.Moved + 8*page // in the middle of the thread's stack
)

// regs are those of a thread whose place is pc.
func registers(pc, sp uint64) []uint64 {
	r := rt.Regs(0x1000)
	r[arch.RIP], r[arch.RSP], r[arch.OrigRAX] = pc, sp, 0
	return r
}

// stubLog is a log of a thread that makes calls, is read by a sweep and by a snapshot while
// it is in one, and dies.
func stubLog(t *testing.T) *replay.Trace {
	t.Helper()
	b := rt.New(t)
	b.Event(1, &format.Exec{Path: "/p", Auxv: []byte("auxv")}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Text, 4, addr.Read|addr.Exec, "/p"),
		rt.Map(1, rt.Moved, 16, addr.Read|addr.Write, ""), rt.Map(1, rt.Heap, 4, addr.Read|addr.Write, "[heap]"))
	call := func(name string, ret int64, args ...uint64) {
		nr := map[string]uint32{"read": 0, "write": 1}[name]
		c := &format.Syscall{Arch: arch.X86_64, Nr: nr, Ret: ret, Returned: true, IP: uint64(rt.Text) + 0x100 + uint64(nr), SP: uint64(sp)}
		copy(c.Args[:], args)
		c.Enter = b.Now() + 1000
		b.Wait(1 << 20)
		b.Event(1, c)
	}
	call("write", 7, 1, uint64(rt.Heap), 7) // step 1
	b.Event(0, &format.Snapshot{MM: 1, Reason: format.ReasonSweep, Pages: 1}, rt.Page(1, sp.PageDown(), 's'), rt.Page(1, rt.Heap, '1'))
	c := &format.Syscall{Arch: arch.X86_64, Nr: 0, Ret: 3, Returned: true, IP: uint64(rt.Text) + 0x100, SP: uint64(sp), Args: [6]uint64{4, uint64(rt.Heap), 9}, Enter: b.Now() + 1000}
	b.Wait(1 << 20)
	b.Event(0, &format.Snapshot{MM: 1, Reason: format.ReasonSweep, Pages: 1}, rt.Page(1, sp.PageDown(), 't')) // 3: in the call, but a sweep
	b.Wait(1 << 20)
	b.Event(0, &format.Snapshot{MM: 1, Reason: "interval", Full: true, Pages: 2}, rt.Page(1, sp.PageDown(), 'u'), rt.Page(1, rt.Heap, '2'), // 4
		&format.RegsSet{Thread: 1, Regs: registers(c.IP, c.SP)})
	b.Wait(1 << 20)
	b.Event(1, c)                           // 5: the call returns
	call("write", 1, 1, uint64(rt.Heap), 1) // 6
	b.Wait(1 << 20)
	b.EventRegs(1, &format.Signal{Signo: 7, Fatal: true, Info: []byte{7}}, registers(uint64(rt.Text)+0x200, uint64(sp)-64), // 7
		rt.Page(1, sp.PageDown(), 'v'), rt.Page(1, rt.Heap, '3'))
	b.Event(1, &format.Exit{Process: true, Status: 7}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := replay.New(rt.Open(t, b.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func (c *client) step() string {
	c.t.Helper()
	text := c.monitor("step?")
	return strings.TrimSuffix(strings.Fields(text)[1], ",")
}

// TestRules goes through a log and asks at each stop what is known.
func TestRules(t *testing.T) {
	c := dial(t, stubLog(t), Options{})
	stack, heap := fmt.Sprintf("m%x,1", uint64(sp)), fmt.Sprintf("m%x,1", uint64(rt.Heap))
	rbx, rax, rdx := "p1", "p0", "p3"
	unknown := strings.Repeat("xx", 8)
	le := func(v uint64) string {
		var b [8]byte
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		return hex.EncodeToString(b[:])
	}
	if got := c.ask("?"); got != "T0athread:p64.64;" { // SIGBUS is 10 for gdb
		t.Errorf("the first stop: %q", got)
	}
	if got := c.ask(stack) + c.ask(heap); got != "7633" { // v3
		t.Errorf("memory at the signal: %q", got)
	}
	if got := c.ask(rbx); got == unknown {
		t.Error("a register of the signal is not known")
	}
	for _, x := range []struct {
		move, stop, step, stack, heap, rax, rdx string
		whole                                   bool
	}{
		{"bs", "T05thread:p64.64;", "6", "E0e", "32", le(1), le(1), false},
		{"bs", "T05thread:p64.64;", "5", "75", "32", le(3), le(9), true},
		{"bs", "T05thread:p64.64;", "1", "E0e", "E0e", le(7), le(7), false},
		{"bs", "T05replaylog:begin;thread:p64.64;", "1", "E0e", "E0e", le(7), le(7), false},
		{"vCont;s:p64.64", "T05thread:p64.64;", "5", "75", "32", le(3), le(9), true},
	} {
		if got := c.ask(x.move); got != x.stop {
			t.Errorf("%s to step %s: %q", x.move, x.step, got)
		}
		if got := []string{c.step(), c.ask(stack), c.ask(heap), c.ask(rax), c.ask(rdx)}; fmt.Sprint(got) != fmt.Sprint([]string{x.step, x.stack, x.heap, x.rax, x.rdx}) {
			t.Errorf("%s: %q, want %+v", x.move, got, x)
		}
		if got := c.ask(rbx); (got != unknown) != x.whole {
			t.Errorf("step %s: rbx is %q", x.step, got)
		}
	}
	c.monitor("goto 4")
	if got := c.step() + c.ask(stack); got != "475" {
		t.Errorf("at the snapshot: %q", got)
	}
	if said := c.monitor("goto 6"); !strings.Contains(said, "step 6: memory is as of step 4,") {
		t.Errorf("goto does not say how old memory is: %s", said)
	}
	c.monitor("goto 3")
	if got := c.step() + c.ask(stack); got != "3E0e" {
		t.Errorf("at a sweep: %q", got)
	}
	if said := c.monitor("stale on"); !strings.Contains(said, "may be wrong") {
		t.Error(said)
	}
	if got := c.ask(stack); got != "74" {
		t.Errorf("stale: %q", got)
	}
	for _, p := range []string{"M0,1:00", "P0=00", "G00", "X0,0:"} {
		if got := c.ask(p); got != "E1e" {
			t.Errorf("%s: %q", p, got)
		}
	}
}

// TestStopThread asks for registers after a stop in another thread than the first: they are of
// that thread, whichever gdb chose before.
func TestStopThread(t *testing.T) {
	b := rt.New(t)
	b.Event(1, &format.Exec{Path: "/p"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Text, 4, addr.Read|addr.Exec, "/p"), rt.Map(1, rt.Moved, 16, addr.Read|addr.Write, ""))
	b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: 56, Ret: 101, Returned: true}, rt.Thread(2, 101, 100, 1, 1, 1))
	b.EventRegs(2, &format.Signal{Signo: 7, Fatal: true, Info: []byte{7}}, registers(uint64(rt.Text)+0x200, uint64(sp)), &format.RegsSet{Thread: 1, Regs: registers(uint64(rt.Text), uint64(sp)+page)})
	b.Event(1, &format.Exit{Process: true, Status: 7}, &format.ThreadEnd{No: 1}, &format.ThreadEnd{No: 2}, &format.MMDrop{MM: 1})
	tr := replay.New(rt.Open(t, b.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	c := dial(t, tr, Options{})
	const rip = "p10"
	own := c.ask("Hgp64.65") + c.ask(rip)
	if own == "OK" || c.ask("Hgp64.64") != "OK" || own == "OK"+c.ask(rip) {
		t.Fatalf("the threads are at the same place: %q", own)
	}
	for _, choice := range []string{"Hgp0.0", "Hgp64.64"} {
		if got := c.ask(choice) + c.ask("?") + c.ask(rip); got != "OKT0athread:p64.65;"+own[2:] {
			t.Errorf("after %s: %q, want the registers %s", choice, got, own[2:])
		}
	}
}

// TestProcess asks for another process: the connection goes on with its own, and the next one has the other.
func TestProcess(t *testing.T) {
	tr := parentAndChild(t)
	s, err := New(context.Background(), tr, Options{})
	if err != nil {
		t.Fatal(err)
	}
	heap := fmt.Sprintf("m%x,1", uint64(rt.Heap))
	ask := func(c *client, command string) (text, answer string) {
		t.Helper()
		return c.both("qRcmd," + hex.EncodeToString([]byte(command)))
	}
	c := connect(t, s)
	for command, want := range map[string]string{
		"process": "process PID [STEP]", "process 300": "no such process", "process x": "no number", "process 200": "is not there at step 7, but from step 1 to 5", "process 200 nothing": "nothing",
	} {
		if text, answer := ask(c, command); !strings.Contains(text, want) || answer != "E01" {
			t.Errorf("%s: %q, %q", command, text, answer)
		}
	}
	if s.Next() != nil {
		t.Error("what was refused is prepared")
	}
	c.ask("Z2," + heap[1:])
	if said := c.monitor("process 200 3"); !strings.Contains(said, "process 200") || !strings.Contains(said, "step 3") {
		t.Error(said)
	}
	if got := c.ask("?") + c.ask(heap) + c.ask("Hgpc8.c8"); got != "T0athread:p64.64;34E03" {
		t.Errorf("the connection does not go on with its process: %q", got)
	}
	c.c.Close()
	<-c.done
	c.done <- nil
	if s = s.Next(); s == nil {
		t.Fatal("there is no next session")
	}
	c = connect(t, s)
	if got := c.ask("?") + c.ask(heap) + c.ask("Hgp64.64") + c.ask("qfThreadInfo"); got != "T05thread:pc8.c8;32E03mpc8.c8" {
		t.Errorf("the child at step 3: %q", got)
	}
	if got := c.ask("vCont;c") + c.ask(heap); got != "T0athread:pc8.c8;33" {
		t.Errorf("the child dies: %q", got)
	}
	c.monitor("process 100")
	if c.ask("D;c8"); s.Next() != nil {
		t.Error("gdb has gone, and another session waits for it")
	}
	once, err := New(context.Background(), tr, Options{Once: true})
	if err != nil {
		t.Fatal(err)
	}
	if text, answer := ask(connect(t, once), "process 200 3"); !strings.Contains(text, "--pid 200") || answer != "E01" {
		t.Errorf("through a pipe: %q, %q", text, answer)
	}
}

// TestAll shows two processes at a time: gdb attaches to each, and both are at one step.
func TestAll(t *testing.T) {
	c := dial(t, parentAndChild(t), Options{All: true})
	heap := fmt.Sprintf("m%x,1", uint64(rt.Heap))
	threads := func() string { return c.ask("qXfer:threads:read::0,1000") }
	if got := c.ask("!") + c.ask("?") + c.ask("qfThreadInfo"); got != "OKW00l" {
		t.Errorf("before gdb attaches: %q", got)
	}
	if got := c.ask("vAttach;c8"); !strings.HasPrefix(got, "E.process 200: not there at step 7, but from 1 to 5") {
		t.Errorf("a process that has ended: %q", got)
	}
	if got := c.ask("vAttach;64") + c.ask("vAttach;64") + c.ask("vAttach;12c"); got != "T00thread:p64.64;E.process 100 is shown already (info inferiors)E.process 300: no such process" {
		t.Errorf("attach: %q", got)
	}
	c.monitor("goto 3")
	if got := c.ask("vAttach;c8") + c.ask("qfThreadInfo"); got != "T00thread:pc8.c8;mp64.64,pc8.c8" {
		t.Errorf("attach to the child: %q", got)
	}
	if got := c.ask(heap) + c.ask("Hgp64.64") + c.ask(heap) + c.ask("Hgpc8.c8") + c.ask(heap); got != "32OK31OK32" {
		t.Errorf("memory of both: %q", got)
	}
	if got := c.ask("Z2,"+heap[1:]) + c.ask("Hgp64.0") + c.ask("Z2,"+heap[1:]); got != "OKOKOK" {
		t.Errorf("watchpoints: %q", got)
	}
	watch := fmt.Sprintf("T05watch:%x;", uint64(rt.Heap))
	said, got := c.both("vCont;c:p64.-1")
	if got != "T05thread:p64.64;" || !strings.Contains(said, "schedule-multiple") || c.step() != "3" {
		t.Errorf("one process is moved without the other: %q at %s: %s", got, c.step(), said)
	}
	for _, x := range []struct{ move, stop, step, parent, child, said string }{
		{"vCont;c", watch + "thread:pc8.c8;", "4", "31", "33", "changed at step 4"},
		{"vCont;c", watch + "thread:p64.64;", "7", "34", "E0e", "process 200: not there at step 7, but from 1 to 5"},
		{"vCont;c", "T05replaylog:end;thread:p64.64;", "7", "34", "E0e", ""},
		{"bc", "T0athread:pc8.c8;", "4", "31", "33", ""},
		{"bc", watch + "thread:pc8.c8;", "3", "31", "32", ""},
		{"bc", watch + "thread:pc8.c8;", "2", "31", "30", ""},
	} {
		c.ask("Hc0")
		said, got := c.both(x.move)
		if at := c.step(); got != x.stop || at != x.step || !strings.Contains(said, x.said) {
			t.Errorf("%s: %q at step %s, want %+v: %s", x.move, got, at, x, said)
		}
		if got := c.ask("Hgp64.64") + c.ask(heap) + c.ask("Hgpc8.c8") + c.ask(heap); got != "OK"+x.parent+"OK"+x.child {
			t.Errorf("%s: memory %q, want %+v", x.move, got, x)
		}
	}
	c.monitor("goto 7") // gdb goes on with the thread of the child
	if got := strings.Trim(c.ask("g"), "x") + c.ask("p10") + c.ask(heap); got != "E03E0e" {
		t.Errorf("of a process that is not there: %q", got)
	}
	if got := threads(); got != `l<threads><thread id="p64.64">running</thread><thread id="pc8.c8">not there at step 7, but from 1 to 5</thread></threads>` {
		t.Errorf("the threads: %s", got)
	}
	if got := c.ask("D;c8") + c.ask("qfThreadInfo") + c.ask("T pc8.c8") + c.ask("Tpc8.c8"); got != "OKmp64.64E03E03" {
		t.Errorf("detached: %q", got)
	}
	if got := c.ask("D;64") + c.ask("?") + c.ask("vAttach;64"); got != "OKW00T00thread:p64.64;" {
		t.Errorf("all are detached, and one is attached again: %q", got)
	}
	if got := dial(t, parentAndChild(t), Options{}).ask("vAttach;c8"); !strings.HasPrefix(got, "E.") {
		t.Errorf("without all processes: %q", got)
	}
}

// TestWatch goes to the changes of a byte in both directions.
func TestWatch(t *testing.T) {
	c := dial(t, stubLog(t), Options{})
	if got := c.ask(fmt.Sprintf("Z2,%x,1", uint64(rt.Heap))); got != "OK" {
		t.Fatal(got)
	}
	stop := fmt.Sprintf("T05watch:%x;thread:p64.64;", uint64(rt.Heap))
	for _, x := range []struct{ move, stop, step, said string }{
		{"bc", stop, "4", "changed between steps 4 and 7"},                                // the last step with registers that has '2'
		{"bc", "T05replaylog:begin;thread:p64.64;", "1", "changed between steps 2 and 4"}, // a sweep saw '1': nobody knows where the thread was
		{"vCont;c", "T0athread:p64.64;", "7", ""},                                         // from where the value is not known
	} {
		said, got := c.both(x.move)
		if at := c.step(); got != x.stop || at != x.step || !strings.Contains(said, x.said) {
			t.Errorf("%s: %q at step %s, want %q at %s: %s", x.move, got, at, x.stop, x.step, said)
		}
	}
	c.ask(fmt.Sprintf("z2,%x,1", uint64(rt.Heap)))
	if got := c.ask("QCatchSyscalls:1;1") + c.ask("bc"); got != "OKT05syscall_return:1;thread:p64.64;" || c.step() != "6" {
		t.Errorf("a caught call: %q at %s", got, c.step())
	}
	c.ask("QCatchSyscalls:0")
	at := uint64(rt.Text) + 0x100
	if got := c.ask(fmt.Sprintf("Z0,%x,1", at)) + c.ask("bc"); got != "OKT05swbreak:;thread:p64.64;" || c.step() != "5" {
		t.Errorf("a breakpoint at a call: %q at %s", got, c.step())
	}
	if got := c.ask(fmt.Sprintf("z0,%x,1", at)); got != "OK" {
		t.Error(got)
	}
}

// TestObjects reads what gdb reads in pieces.
func TestObjects(t *testing.T) {
	c := dial(t, stubLog(t), Options{})
	read := func(object string) string {
		var out string
		for {
			got := c.ask(fmt.Sprintf("qXfer:%s:read::%x,40", object, len(out)))
			if got == "" || got[0] != 'm' && got[0] != 'l' {
				return got
			}
			if out += got[1:]; got[0] == 'l' {
				return out
			}
		}
	}
	var target struct {
		Features []struct {
			Name string `xml:"name,attr"`
			Regs []struct {
				Name string `xml:"name,attr"`
				Bits int    `xml:"bitsize,attr"`
			} `xml:"reg"`
		} `xml:"feature"`
	}
	d := xml.NewDecoder(strings.NewReader(read("features")))
	if err := d.Decode(&target); err != nil {
		t.Fatal(err)
	}
	n, bits := 0, 0
	for _, f := range target.Features {
		for _, r := range f.Regs {
			if r.Name == "rip" && n != 16 || r.Name == "orig_rax" && n != 57 || r.Name == "xmm0" && n != 40 {
				t.Errorf("%s is number %d", r.Name, n)
			}
			n, bits = n+1, bits+r.Bits
		}
	}
	if all := c.ask("g"); len(all) != bits/4 || n != 60 {
		t.Errorf("%d registers of %d bits, and g has %d digits", n, bits, len(all))
	}
	for object, want := range map[string]string{
		"auxv": "auxv", "exec-file": "/p", "threads": `<threads><thread id="p64.64">running</thread></threads>`,
		"siginfo": "\x07" + strings.Repeat("\x00", 127), "libraries-svr4": `<library-list-svr4 version="1.0"></library-list-svr4>`, "nothing": "",
	} {
		if got := read(object); got != want {
			t.Errorf("%s: %q", object, got)
		}
	}
	if got := c.ask("vFile:open:" + hex.EncodeToString([]byte("/etc/passwd")) + ",0,0"); got != fileMissing {
		t.Errorf("a file that is not mapped: %q", got)
	}
	got := c.ask("vFile:open:" + hex.EncodeToString([]byte("/proc/100/maps")) + ",0,0")
	if got != "F3" {
		t.Fatalf("the mappings: %q", got)
	}
	if got := c.ask("vFile:pread:3,1000,0"); !strings.Contains(got, "[heap]") {
		t.Errorf("the mappings: %q", got)
	}
	if got := c.ask("vFile:close:3") + c.ask("vFile:pread:3,10,0"); got != "F0"+fileBad {
		t.Errorf("after the end of a file: %q", got)
	}
	if said := c.monitor("asof " + fmt.Sprintf("%#x", uint64(rt.Heap))); !strings.Contains(said, "as of this step") {
		t.Error(said)
	}
	if said := c.monitor("nonsense"); !strings.Contains(said, "monitor help") {
		t.Error(said)
	}
}

// TestForLLDB asks as lldb does, to which x is a value.
func TestForLLDB(t *testing.T) {
	c := dial(t, stubLog(t), Options{})
	const triple = "triple:7838365f36342d756e6b6e6f776e2d6c696e75782d676e75;endian:little;ptrsize:8;"
	if got := c.ask("qHostInfo") + c.ask("qProcessInfo"); got != triple+"vm-page-size:4096;pid:64;"+triple+"ostype:linux;" {
		t.Errorf("the machine: %q", got)
	}
	heap := uint64(rt.Heap)
	for at, want := range map[uint64]string{
		heap + 5: fmt.Sprintf("start:%x;size:4000;permissions:rw;name:5b686561705d;", heap), uint64(rt.Text): fmt.Sprintf("start:%x;size:4000;permissions:rx;name:2f70;", uint64(rt.Text)),
		0: fmt.Sprintf("start:0;size:%x;", min(uint64(rt.Text), heap, uint64(rt.Moved))),
	} {
		if got := c.ask(fmt.Sprintf("qMemoryRegionInfo:%x", at)); got != want {
			t.Errorf("the mapping at %x: %q, want %q", at, got, want)
		}
	}
	c.monitor("goto 6")
	if got := c.ask("p1") + c.ask("g"); got != "E16" || strings.Contains(c.ask("p0"), "x") {
		t.Errorf("a register that is not known: %q", got)
	}
}

func TestI386(t *testing.T) {
	d := describe(arch.I386)
	for n, name := range map[int]string{0: "eax", 4: "esp", 8: "eip", 15: "gs", 16: "st0", 32: "xmm0", 40: "mxcsr", 41: "orig_eax"} {
		if d.fields[n].name != name {
			t.Errorf("register %d is %s", n, d.fields[n].name)
		}
	}
}

// TestFrames sends packets in the protocol's frames, also bad ones.
func TestFrames(t *testing.T) {
	var out bytes.Buffer
	c := newConn(struct {
		io.Reader
		io.Writer
	}{strings.NewReader("+$m1#9e" + "$qC#00" + "-" + "$}\x03#80" + "\x03"), &out})
	if err := c.write("a}#b"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		in, err := c.read()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ok := false
		if in.kind != interrupt {
			if ok, err = c.acknowledge(in); err != nil {
				t.Fatal(err)
			}
		}
		got = append(got, fmt.Sprintf("%d %q %v", in.kind, in.text, ok))
	}
	if want := `[0 "m1" true 1 "" false 2 "" false 0 "#" true 3 "" false]`; fmt.Sprint(got) != want {
		t.Errorf("read %v, want %s", got, want)
	}
	const packet = "$a}]}\x03b#1d"
	if want := packet + "+" + "-" + packet + "+"; out.String() != want {
		t.Errorf("sent %q, want %q", out.String(), want)
	}
	c = newConn(struct {
		io.Reader
		io.Writer
	}{strings.NewReader("$" + strings.Repeat("a", maxPacket+1) + "#00"), &out})
	if _, err := c.read(); err != errTooLong {
		t.Errorf("a long packet: %v", err)
	}
}

// FuzzSession sends anything to a stub: it answers or ends.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{"$?#3f", "$g#67", "$m7f0000000000,100#00", "$qXfer:features:read::0,fff#7d", "$vFile:open:2f70,0,0#00", "$qRcmd,73746570#00", "$Z2,1000,8#00", "$bc#c5", "$bs#d5"} {
		f.Add([]byte(seed))
	}
	for _, seed := range []string{"$vAttach;c8#00$Hgpc8.c8#00$g#00$vCont;c#00$Hgp64.64#00$g#00$m7f0000000000,4#00", "$D;64#00$D;c8#00$?#00$g#00$qC#00$bc#00", "$qHostInfo#00$p1#00$qMemoryRegionInfo:0#00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		// Checksums are made right: they are not what is tested.
		var in bytes.Buffer
		for _, p := range bytes.Split(b, []byte("$")) {
			p, _, _ = bytes.Cut(p, []byte("#"))
			sum := byte(0)
			for _, x := range p {
				sum += x
			}
			fmt.Fprintf(&in, "$%s#%02x", p, sum)
		}
		for _, tr := range []*replay.Trace{stubLog(t), parentAndChild(t)} {
			for _, all := range []bool{false, true} {
				s, err := New(context.Background(), tr, Options{All: all})
				if err != nil {
					t.Fatal(err)
				}
				err = s.Serve(context.Background(), struct {
					io.Reader
					io.Writer
				}{bytes.NewReader(in.Bytes()), io.Discard})
				if err != nil && err != errTooLong {
					t.Error(err)
				}
			}
		}
	})
}

// parentAndChild is a log of a process 100 that forks 200, which dies before it does.
func parentAndChild(t *testing.T) *replay.Trace {
	t.Helper()
	b := rt.New(t)
	b.Event(1, &format.Exec{Path: "/p"}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Text, 4, addr.Read|addr.Exec, "/p"), rt.Map(1, rt.Heap, 4, addr.Read|addr.Write, "[heap]"))
	b.Event(1, &format.Clone{Child: 2}, &format.MMNew{MM: 2, From: 1}, rt.Thread(2, 200, 200, 2, 2, 1))
	wait := &format.Syscall{Arch: arch.X86_64, Nr: 61, Ret: 200, Returned: true, IP: uint64(rt.Text), SP: uint64(sp), Enter: b.Now() + 1000}
	b.Wait(1 << 20)
	b.Event(0, &format.Snapshot{MM: 1, Reason: "interval", Pages: 1}, rt.Page(1, rt.Heap, '1'), &format.RegsSet{Thread: 1, Regs: registers(uint64(rt.Text), uint64(sp))},
		&format.RegsSet{Thread: 2, Regs: registers(uint64(rt.Text)+1, uint64(sp))}, rt.Page(2, rt.Heap, '0')) // 2
	b.Event(0, &format.Snapshot{MM: 2, Reason: "interval", Pages: 1}, rt.Page(2, rt.Heap, '2'), &format.RegsSet{Thread: 2, Regs: registers(uint64(rt.Text)+2, uint64(sp))}) // 3
	b.EventRegs(2, &format.Signal{Signo: 7, Fatal: true, Info: []byte{7}}, registers(uint64(rt.Text)+4, uint64(sp)), rt.Page(2, rt.Heap, '3'))                              // 4
	b.Event(2, &format.Exit{Process: true, Status: 7}, &format.ThreadEnd{No: 2}, &format.MMDrop{MM: 2})
	b.Event(1, wait)                                                                                                                           // 6
	b.EventRegs(1, &format.Signal{Signo: 7, Fatal: true, Info: []byte{7}}, registers(uint64(rt.Text)+6, uint64(sp)), rt.Page(1, rt.Heap, '4')) // 7
	b.Event(1, &format.Exit{Process: true, Status: 7}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	tr := replay.New(rt.Open(t, b.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}
