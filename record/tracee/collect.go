//go:build linux

// This file reads what there is to know around a call: memory, and the names of
// descriptors.

package tracee

import (
	"bytes"

	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/call"
	"memtrace/record/procfs"
)

// Collector says what memory is read around the calls of threads.
func (o *Options) Collector() call.Collector {
	var g Group
	var t Thread
	g.opts = *o
	g.collect(&t)
	return t.collector
}

// collect has the memory around the calls of a thread read as the options say.
func (g *Group) collect(t *Thread) {
	t.collector = call.Collector{
		Level:   call.LevelStruct,
		Read:    func(b []byte, a addr.Addr) int { return g.ReadMem(t, b, a) },
		MaxData: cmp.Or(g.opts.DataLimit, -1), MaxString: cmp.Or(g.opts.StringLimit, -1),
	}
	if g.opts.DataLimit|g.opts.StringLimit != 0 {
		t.collector.Level = call.LevelData
	}
}

// ReadMem reads memory of a thread, without a descriptor of it, and returns how
// many bytes could be read.
func (g *Group) ReadMem(t *Thread, b []byte, a addr.Addr) int {
	if t.Space != nil && t.Space.Read != nil {
		return t.Space.Read(b, a)
	}
	return g.k.ReadMem(t.TID, b, a)
}

// Recorded is a call of a thread that was recorded in the program. before and after copy
// what is known of the memory around it, name is that of the descriptor that it has made,
// nil if it has not been asked for. It is valid until the thread's next call.
func (g *Group) Recorded(t *Thread, like *Call, before, after func(b []byte, a addr.Addr) int, name []byte) *Call {
	c := &t.calls
	*c = *like
	c.Bufs = nil
	clear(c.Args[arity(c.Arch, c.Nr):])
	k := &t.collector
	live := k.Read
	k.Read = before
	k.Enter(&c.Call)
	k.Read = after
	k.Exit(&c.Call)
	k.Read = live
	if c.Returned && c.Ret >= 0 && makesFDs(c.Arch, c.Nr) {
		c.MadeFDs(func(fd int32, _ bool) {
			if name == nil {
				name = g.fdNameOf(t, fd)
			}
			if name != nil {
				k.Add(&c.Call, call.Buf{Arg: call.BufRetName, Out: true, Addr: addr.Addr(fd), Data: name})
			}
		})
	}
	return c
}

// nameFDs adds to a call the names of the descriptors that it made. A copy is
// called what the original is.
func (g *Group) nameFDs(t *Thread) {
	c := t.call
	if c.Ret < 0 || !makesFDs(c.Arch, c.Nr) {
		return
	}
	c.MadeFDs(func(fd int32, _ bool) {
		if name := g.fdNameOf(t, fd); name != nil {
			noteProc(t.Proc, name)
			t.collector.Add(&c.Call, call.Buf{Arg: call.BufRetName, Out: true, Addr: addr.Addr(fd), Data: name})
		}
	})
}

// noteProc notes that a process has had a descriptor for a file of /proc that tells of us.
func noteProc(p *Process, name []byte) {
	if bytes.HasPrefix(name, []byte("/proc/")) && (bytes.HasSuffix(name, []byte("/stat")) || bytes.HasSuffix(name, []byte("/status"))) {
		p.readsProc = true
	}
}

// maxUsed is how many descriptors of a call are asked for.
const maxUsed = 64

// nameUsed adds to a call that begins the names of the descriptors that it uses, where
// an io_uring may have opened and closed some without a call.
func (g *Group) nameUsed(t *Thread) {
	if !t.Space.Rings {
		return
	}
	var used []int32
	t.call.UsedFDs(func(fd int32) {
		if len(used) < maxUsed && !slices.Contains(used, fd) {
			used = append(used, fd)
		}
	})
	for _, fd := range used {
		t.collector.Add(&t.call.Call, call.Buf{Arg: call.BufFDName, Addr: addr.Addr(fd), Data: g.fdNameOf(t, fd)})
	}
}

// fdNameOf is what a descriptor refers to, nil if it is not open.
func (g *Group) fdNameOf(t *Thread, fd int32) []byte {
	n, err := procfs.FDName(t.TID, int(fd), g.fdName[:])
	if err != nil {
		return nil
	}
	return append([]byte(nil), g.fdName[:n]...)
}

// CloneArgs is what the call at whose entry a thread stands asks for, if it makes a thread
// or process.
func (g *Group) CloneArgs(t *Thread) CloneArgs { return g.readClone(t) }

// readClone says what the call that a thread enters asks for: one that makes a
// thread or process.
func (g *Group) readClone(t *Thread) CloneArgs {
	c := t.call
	row, _ := c.Arch.Syscall(c.Nr)
	switch row.Name {
	case "vfork":
		return CloneArgs{Flags: unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD)}
	case "clone":
		return CloneArgs{Flags: c.Args[0], Stack: c.Args[1]}
	case "clone3":
		// struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal,
		// stack, stack_size
		var b [56]byte
		g.ReadMem(t, b[:], addr.Addr(c.Args[0]))
		w := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
		a := CloneArgs{Flags: w(0) | w(4)&0xff}
		if w(5) != 0 {
			a.Stack = w(5) + w(6)
		}
		return a
	}
	return CloneArgs{Flags: uint64(unix.SIGCHLD)}
}
