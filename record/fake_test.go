//go:build linux

package record

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
	"memtrace/record/pagetrace"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
	"memtrace/record/tracee"
)

func page(n int) addr.Addr { return addr.Addr(n) << addr.PageShift }

func pages(from, to int) addr.Range { return addr.Range{Start: page(from), End: page(to)} }

func anon(from, to int) vma.VMA {
	return vma.VMA{Range: pages(from, to), Prot: addr.Read | addr.Write, Kind: vma.AnonPrivate}
}

// image is what every program begins with.
func image() *vma.Set {
	text := vma.VMA{Range: pages(0x10, 0x14), Prot: addr.Read | addr.Exec, Inode: 7, Name: "/bin/program", Kind: vma.FilePrivate}
	vdso := vma.VMA{Range: pages(0x7fff0, 0x7fff1), Prot: addr.Read | addr.Exec, Name: "[vdso]", Kind: vma.VDSO}
	stack := vma.VMA{Range: pages(0x7ff00, 0x7ff04), Prot: addr.Read | addr.Write, Name: "[stack]", Kind: vma.MainStack}
	set, err := vma.NewSet([]vma.VMA{text, anon(0x20, 0x40), stack, vdso})
	if err != nil {
		panic(err)
	}
	return set
}

// memorySpace is an address space as the recorder opens it.
type memorySpace struct {
	*dirtytest.Memory
	w    *world
	text []byte
	lie  []byte // what MapsText says instead
	full int    // WriteMem writes no more than so many bytes, if not 0
}

func (s *memorySpace) MapsText() ([]byte, error) {
	if s.lie != nil || s.Ended {
		return s.lie, nil
	}
	s.text = s.Mappings().AppendMaps(s.text[:0])
	return s.text, nil
}

func (s *memorySpace) Maps() ([]vma.VMA, error) {
	text, err := s.MapsText()
	if err != nil {
		return nil, err
	}
	return procfs.ParseMaps(nil, text)
}

func (s *memorySpace) WriteMem(b []byte, a addr.Addr) (int, error) {
	old, err := s.Mem(a, len(b))
	if err != nil {
		return 0, err
	}
	n := len(b)
	if s.full > 0 {
		n = min(n, s.full)
	}
	copy(old, b[:n])
	s.Write(a.PageDown(), value(old), false)
	return n, nil
}

// Mem is some memory at the beginning of a page.
func (s *memorySpace) Mem(a addr.Addr, n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := s.ReadMem(b, a)
	return b, err
}

// ReadMem reads from the beginning of pages on.
func (s *memorySpace) ReadMem(b []byte, a addr.Addr) (int, error) {
	whole := make([]byte, (len(b)+addr.PageSize-1)/addr.PageSize*addr.PageSize)
	n, err := s.Memory.ReadMem(whole, a)
	return copy(b, whole[:n]), err
}

func (s *memorySpace) Close() { s.w.left-- }

func value(b []byte) (n uint64) {
	for i := range min(len(b), 8) {
		n |= uint64(b[i]) << (8 * i)
	}
	return n
}

// world is the kernel of a test: address spaces by thread.
type world struct {
	spaces map[int]*dirtytest.Memory
	left   int // and not closed
	opens  int
	refuse error                      // to open any of them
	uffd   bool                       // there are userfaultfds
	soft   bool                       // there are soft-dirty bits
	texts  map[int]string             // status by thread
	types  map[vma.Dev]string         // of file systems
	taken  map[int]*dirtytest.Uffd    // by the thread that they were taken from
	lies   map[int]func(*memorySpace) // what is wrong with the space of a thread
}

func newWorld() *world {
	return &world{
		spaces: map[int]*dirtytest.Memory{}, texts: map[int]string{}, taken: map[int]*dirtytest.Uffd{}, lies: map[int]func(*memorySpace){},
	}
}

func (w *world) open(tid int) (opened, error) {
	m := w.spaces[tid]
	if m == nil {
		return nil, procfs.ErrGone
	}
	if w.refuse != nil {
		return nil, w.refuse
	}
	w.left++
	w.opens++
	s := &memorySpace{Memory: m, w: w}
	if lie := w.lies[tid]; lie != nil {
		lie(s)
	}
	return s, nil
}

func (w *world) status(tid int) ([]byte, error) {
	if s, ok := w.texts[tid]; ok {
		return []byte(s), nil
	}
	return nil, errors.New("no such thread")
}

func (w *world) watchWrites([]int, uint64) (pagetrace.Faults, error) { return nil, unix.ENOSYS }

func (w *world) mounts(int) (map[vma.Dev]string, error) { return w.types, nil }

func (w *world) hasUffd() bool      { return w.uffd }
func (w *world) hasSoftDirty() bool { return w.soft }

func (w *world) takeUffd(tid, _ int) (dirty.Registrar, error) {
	u := &dirtytest.Uffd{Memory: w.spaces[tid]}
	w.taken[tid] = u
	return u, nil
}

func (w *world) clearSoftDirty(tid int) error {
	if w.spaces[tid] == nil {
		return procfs.ErrGone
	}
	return (&dirtytest.Threads{Memory: w.spaces[tid]}).ClearSoftDirty()
}

// still is a tracee.Kernel whose threads all stand still.
type still struct{ tracee.Kernel }

func (still) GetRegs(tid int, r *ptrace.Regs) error {
	r[ptrace.RegRIP] = uint64(tid)
	return nil
}

func (still) GetRegSet(tid, _ int, b []byte) (int, error) {
	b[0] = byte(tid)
	return 64, nil
}

func (still) RSeq(int) (uint64, error)        { return 0x20000, nil }
func (still) Next(bool) (tracee.Fact, error)  { return tracee.Fact{}, nil }
func (still) ContSyscall(int, int) error      { return nil }
func (still) Begin() (wake func(), err error) { return func() {}, nil }

// tape is a Log that is looked at by tests.
type tape struct {
	*format.Writer
	out    bytes.Buffer
	told   []string // what came, in order
	fail   error    // of what comes next
	events []format.Event
}

func newTape(t *testing.T) *tape {
	t.Helper()
	l := &tape{}
	h := &format.Header{Arch: arch.X86_64, Start: time.Now(), TimeShift: format.DefaultTimeShift}
	w, err := format.NewWriter(&l.out, h, &format.WriterOptions{FlushInterval: -1, GroupSteps: 64})
	if err != nil {
		t.Fatal(err)
	}
	l.Writer = w
	return l
}

func (l *tape) Event(e *format.Event) (format.Step, error) {
	l.told = append(l.told, nameOf(e.Record))
	if l.fail != nil {
		return 0, l.fail
	}
	step, err := l.Writer.Event(e)
	kept := *e
	kept.Step = step
	kept.Changes = append([]format.Change(nil), e.Changes...)
	switch r := e.Record.(type) { // those that the recorder uses again
	case *format.Syscall:
		c := *r
		kept.Record = &c
	case *format.MemInfo:
		m := format.MemInfo{Samples: append([]format.Sample(nil), r.Samples...)}
		for i := range m.Samples {
			m.Samples[i].Data = bytes.Clone(m.Samples[i].Data)
		}
		kept.Record = &m
	}
	l.events = append(l.events, kept)
	return step, err
}

func (l *tape) Change(c format.Change) error {
	l.told = append(l.told, nameOf(c))
	if l.fail != nil {
		return l.fail
	}
	return l.Writer.Change(c)
}

func (l *tape) Flush() error {
	l.told = append(l.told, "Flush")
	if l.fail != nil {
		return l.fail
	}
	return l.Writer.Flush()
}

// nameOf is the name of a record's or a change's type.
func nameOf(x any) string { return fmt.Sprintf("%T", x)[len("*format."):] }

// names are those of changes.
func names(cs []format.Change) (ns []string) {
	for _, c := range cs {
		ns = append(ns, nameOf(c))
	}
	return ns
}

// verified ends a log and reads it.
func (l *tape) verified(t *testing.T) *format.Reader {
	t.Helper()
	if err := l.Writer.Close("exit"); err != nil {
		t.Fatal(err)
	}
	b := bytes.NewReader(l.out.Bytes())
	if _, err := format.Verify(b, b.Size(), nil, func(err error) { t.Error(err) }); err != nil {
		t.Fatal(err)
	}
	r, err := format.NewReader(b, b.Size(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bench is a recorder whose Handler methods a test calls itself.
type bench struct {
	*Recorder
	t    *testing.T
	w    *world
	tape *tape
	last int // tid
}

func newBench(t *testing.T, o Options) *bench {
	t.Helper()
	return newBenchOn(t, still{}, o)
}

func newBenchOn(t *testing.T, k tracee.Kernel, o Options) *bench {
	t.Helper()
	b := &bench{t: t, w: newWorld(), tape: newTape(t), last: 1 << 23}
	// What may take a share of the time so far has an hour's share: a slow machine must
	// not be at its limit.
	b.Recorder = newRecorder(k, b.tape, time.Now().Add(-time.Hour), o)
	b.kernel = b.w
	return b
}

// program begins a process with an image of its own.
func (b *bench) program() *tracee.Thread {
	b.last++
	p := &tracee.Process{PID: b.last, No: uint32(b.last - 1<<23), Arch: arch.X86_64, Threads: map[int]*tracee.Thread{}}
	t := b.thread(p, &tracee.Space{Threads: map[*tracee.Thread]struct{}{}}, b.last)
	b.w.spaces[t.TID] = dirtytest.New(image())
	b.Began(t, tracee.Birth{How: tracee.Executed, OldTID: uint32(t.TID)})
	return t
}

func (b *bench) thread(p *tracee.Process, s *tracee.Space, tid int) *tracee.Thread {
	t := &tracee.Thread{TID: tid, No: uint32(tid - 1<<23), Proc: p, Space: s}
	p.Threads[tid], s.Threads[t] = t, struct{}{}
	return t
}

// spawn makes another thread.
func (b *bench) spawn(parent *tracee.Thread, stack addr.Addr) *tracee.Thread {
	b.last++
	t := b.thread(parent.Proc, parent.Space, b.last)
	b.w.spaces[t.TID] = b.w.spaces[parent.TID]
	b.Began(t, tracee.Birth{How: tracee.Cloned, Parent: parent, Clone: tracee.CloneArgs{Flags: unix.CLONE_VM | unix.CLONE_THREAD, Stack: uint64(stack)}})
	return t
}

// enter and leave are the two ends of a call, do is all of it: change is what the kernel
// does.
func (b *bench) enter(t *tracee.Thread, name string, args ...uint64) (c *tracee.Call, wait bool) {
	nr, ok := arch.X86_64.Number(name)
	if !ok {
		b.t.Fatalf("no call %s", name)
	}
	c = &tracee.Call{Call: call.Call{Arch: arch.X86_64, Nr: nr}, Enter: b.group.Now()}
	copy(c.Args[:], args)
	return c, b.Entered(t, c)
}

func (b *bench) leave(t *tracee.Thread, c *tracee.Call, ret int64) {
	c.Ret, c.Returned, c.Leave = ret, true, b.group.Now()
	b.Returned(t, c)
}

func (b *bench) do(t *tracee.Thread, change func(*dirtytest.Memory), ret int64, name string, args ...uint64) {
	b.t.Helper()
	c, wait := b.enter(t, name, args...)
	if wait {
		b.t.Fatalf("%s has to wait", name)
	}
	if change != nil {
		change(b.w.spaces[t.TID])
	}
	b.leave(t, c, ret)
}

// end ends a thread, and with it its process if it is the last.
func (b *bench) end(t *tracee.Thread) {
	b.Ending(t, 0)
	delete(t.Proc.Threads, t.TID)
	delete(t.Space.Threads, t)
	b.Removed(t)
	b.Ended(t, 0, len(t.Proc.Threads) == 0)
}

// events are the records of the log from an event on, by name.
func (b *bench) events(from int) (ns []string) {
	for _, e := range b.tape.events[from:] {
		ns = append(ns, nameOf(e.Record))
	}
	return ns
}

// only is the newest event, which must be of a kind.
func newest[R format.Record](b *bench) (R, *format.Event) {
	b.t.Helper()
	for i := len(b.tape.events) - 1; i >= 0; i-- {
		if r, ok := b.tape.events[i].Record.(R); ok {
			return r, &b.tape.events[i]
		}
	}
	var none R
	b.t.Fatalf("there is no %T", none)
	return none, nil
}
