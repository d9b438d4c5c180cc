package replay

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"sync"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// Flags of clone(2) that say what is shared.
const (
	cloneFiles  = 0x400
	cloneThread = 0x10000
)

// descriptors are the descriptor tables of all threads, as the calls in the log
// made them. Threads that share a table share the pointer.
type descriptors struct {
	of      map[uint32]*call.FDs
	several bool // there has been more than one thread

	call call.Call // the one that is fed: each of its own would be garbage
}

// copy is deep, and keeps what is shared shared.
func (d *descriptors) copy() *descriptors {
	seen := map[*call.FDs]*call.FDs{}
	c := &descriptors{of: make(map[uint32]*call.FDs, len(d.of)), several: d.several}
	for no, f := range d.of {
		if seen[f] == nil {
			seen[f] = f.Clone()
		}
		c.of[no] = seen[f]
	}
	return c
}

// len is how many descriptors the tables have.
func (d *descriptors) len() (n int) {
	seen := map[*call.FDs]bool{}
	for _, f := range d.of {
		if !seen[f] {
			seen[f] = true
			n += 1 + f.Len()
		}
	}
	return n
}

// table is the thread's table, made if need be.
func (d *descriptors) table(no uint32) *call.FDs {
	f := d.of[no]
	if f == nil {
		f = new(call.FDs)
		if d.of == nil {
			d.of = map[uint32]*call.FDs{}
		}
		d.of[no] = f
	}
	return f
}

// feed follows one event.
func (d *descriptors) feed(ev *format.Event) {
	switch r := ev.Record.(type) {
	case *format.Syscall:
		if !r.Returned {
			break
		}
		d.call = callOf(r)
		if asked(r.Bufs) {
			d.table(ev.Thread).Learn(&d.call)
		}
		if sc, ok := r.Arch.Syscall(r.Nr); ok && sc.Flags&arch.NamesFD == 0 {
			break
		}
		d.table(ev.Thread).Apply(&d.call)
	case *format.Clone:
		f := d.table(ev.Thread)
		if r.Flags&(cloneFiles|cloneThread) == 0 {
			f = f.Clone()
		}
		d.of[r.Child] = f
	case *format.Exec:
		f := d.table(ev.Thread).Clone()
		f.Exec()
		setFDs(f, r.FDs)
		d.of[ev.Thread] = f
	case *format.Attach:
		setFDs(d.table(ev.Thread), r.FDs)
	}
	for _, c := range ev.Changes {
		switch c := c.(type) {
		case *format.ThreadSet: // found by an attach: threads of a process share
			d.several = d.several || c.Thread.No > 1
			if d.of[c.Thread.No] == nil && c.Thread.Proc != c.Thread.No {
				d.of[c.Thread.No] = d.table(c.Thread.Proc)
			}
		case *format.ThreadEnd:
			delete(d.of, c.No)
		}
	}
}

// asked reports whether names of descriptors were asked for when a call began.
func asked(bufs []call.Buf) bool {
	return slices.ContainsFunc(bufs, func(b call.Buf) bool { return b.Arg == call.BufFDName })
}

func setFDs(f *call.FDs, fds []format.FD) {
	for _, x := range fds {
		f.Set(x.Num, x.Name, x.CloExec)
	}
}

// name is what the thread's descriptor fd stands for, "" if that is not known.
func (d *descriptors) name(thread uint32) func(fd int32) string {
	f := d.of[thread]
	if f == nil {
		return nil
	}
	return func(fd int32) string {
		n, _ := f.Name(fd)
		return n
	}
}

// tell has a call of the thread shown with what its descriptors stand for.
func (d *descriptors) tell(thread uint32, c *call.Call) {
	if f := d.of[thread]; f != nil {
		c.FD, c.Netlink = d.name(thread), f.Netlink
	}
}

// nameStride is how many steps lie between two kept copies of the tables, if these are
// small.
const nameStride = 8192

// mostNames is how many descriptors the kept copies have together.
const mostNames = 500_000

// nameIndex keeps copies of the tables along the log, as far as it was read.
type nameIndex struct {
	sync.Mutex
	stride format.Step // between two copies; 0: nameStride
	names  int         // descriptors in all copies
	kept   format.Step // up to here copies were kept
	most   int         // of names; 0: mostNames
	at     []nameMark  // ascending
	near   nameMark    // the last tables that are not known from the beginning
}

type nameMark struct {
	step format.Step // tables before this step
	d    *descriptors
}

// keep keeps the tables before a step. If there are too many names, every second copy goes.
func (x *nameIndex) keep(n format.Step, d *descriptors) {
	x.stride = max(x.stride, nameStride)
	if n%x.stride != 0 {
		return
	}
	x.at = append(x.at, nameMark{n, d.copy()})
	x.names += d.len()
	if x.names <= cmp.Or(x.most, mostNames) {
		return
	}
	x.stride *= 2
	x.at = slices.DeleteFunc(x.at, func(m nameMark) bool { return m.step%x.stride != 0 })
	x.names = 0
	for i := range x.at {
		x.names += x.at[i].d.len()
	}
}

// nameReach is how many events are read for the names in one line: a twentieth of
// a second. Descriptors that were made before have no name then.
const nameReach = 128 << 10

// Names finds the names of all descriptors, so that lists that begin anywhere have them at
// once (ListOptions.Near). It reads the whole log.
func (t *Trace) Names(ctx context.Context) error {
	for n := t.First(); n < t.Steps(); n += nameStride { // others wait no longer
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := t.descriptorsAt(n); err != nil {
			return err
		}
	}
	return nil
}

// descriptorsNear are the tables before step n, as far as the reach events before it tell.
func (t *Trace) descriptorsNear(n, reach format.Step) (*descriptors, error) {
	t.names.Lock()
	i := sort.Search(len(t.names.at), func(i int) bool { return t.names.at[i].step > n })
	if n <= t.First()+reach || i > 0 && n-t.names.at[i-1].step <= max(reach, t.names.stride) {
		t.names.Unlock()
		return t.descriptorsAt(n)
	}
	defer t.names.Unlock()
	near := &t.names.near
	if near.d == nil || near.step > n || n-near.step > reach {
		s, err := t.Before(n - reach)
		if err != nil {
			return nil, err
		}
		*near = nameMark{n - reach, descriptorsOf(s)}
	}
	if err := t.follow(near.d, near.step, n); err != nil {
		near.d = nil
		return nil, err
	}
	near.step = n
	return near.d.copy(), nil
}

// descriptorsOf are empty tables of threads, one for those of a process.
func descriptorsOf(s *format.State) *descriptors {
	d := new(descriptors)
	for _, th := range s.Threads {
		f := d.table(th.Proc) // makes d.of
		d.of[th.No] = f
		d.several = d.several || th.No > 1
	}
	return d
}

// follow feeds d the events from..to-1.
func (t *Trace) follow(d *descriptors, from, to format.Step) error {
	if from == to {
		return nil
	}
	for ev, err := range t.r.Events(from) {
		if err != nil {
			return err
		}
		if ev.Step >= to {
			break
		}
		d.feed(ev)
	}
	return nil
}

// descriptorsAt are the tables before step n.
func (t *Trace) descriptorsAt(n format.Step) (*descriptors, error) {
	t.names.Lock()
	defer t.names.Unlock()
	i := sort.Search(len(t.names.at), func(i int) bool { return t.names.at[i].step > n })
	d, from := &descriptors{}, format.Step(0)
	kept := t.names.kept
	defer func() { t.names.kept = kept }()
	if i > 0 {
		d, from = t.names.at[i-1].d.copy(), t.names.at[i-1].step
	}
	if from == n {
		return d, nil
	}
	for ev, err := range t.r.Events(from) {
		if err != nil {
			return nil, err
		}
		if ev.Step >= n {
			break
		}
		d.feed(ev)
		if next := ev.Step + 1; next%nameStride == 0 && next > kept {
			t.names.keep(next, d)
			kept = next
		}
	}
	return d, nil
}

// callOf is the call in the form that format/call prints.
func callOf(s *format.Syscall) call.Call {
	return call.Call{Arch: s.Arch, Nr: s.Nr, Args: s.Args, Ret: s.Ret, Returned: s.Returned, Bufs: s.Bufs}
}

// sortedThreads are the threads of s that keep says yes to, by number.
func sortedThreads(s *format.State, keep func(*format.Thread) bool) []format.Thread {
	var ts []format.Thread
	for _, t := range s.Threads {
		if keep(t) {
			ts = append(ts, *t)
		}
	}
	slices.SortFunc(ts, func(a, b format.Thread) int { return int(a.No) - int(b.No) })
	return ts
}
