//go:build linux

// This file tells of memory that a tracee writes in another: by process_vm_writev(2), or
// through /proc/PID/mem.

package tracee

import (
	"strconv"
	"strings"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/record/procfs"
)

// maxOtherWrite is how many bytes of one call are told.
const maxOtherWrite = 1 << 20

// writesOther notes, at the entry of a call, what it is to write in another tracee.
func (g *Group) writesOther(t *Thread, c *Call) {
	t.other = nil
	if g.opts.Poked == nil {
		return
	}
	w := &otherWrite{}
	switch {
	case isCall(c, "process_vm_writev"):
		w.target = g.threads[int(int32(c.Args[0]))]
		if w.target != nil && w.target.Space != t.Space {
			g.addParts(t, w, c, c.Args[3], c.Args[4])
		}
	case !t.Proc.tracing(): // others hardly ever do it, and it takes a look at the descriptor
	case isCall(c, "pwrite64"):
		w.target = g.memoryOf(t, int32(c.Args[0]))
		w.add(g, c.Args[3], c.Args[2])
	case isCall(c, "write"):
		if w.target = g.memoryOf(t, int32(c.Args[0])); w.target != nil {
			w.add(g, offsetOf(t.TID, int32(c.Args[0])), c.Args[2])
		}
	}
	if len(w.parts) > 0 {
		t.other = w
	}
}

// addParts adds the vectors of a call.
func (g *Group) addParts(t *Thread, w *otherWrite, c *Call, at, n uint64) {
	word := wordSize(c.Arch)
	v := make([]byte, 2*word)
	for i := range min(n, maxParts) {
		if g.ReadMem(t, v, addr.Addr(at+i*uint64(len(v)))) != len(v) {
			return
		}
		w.add(g, wordOf(v, c.Arch), wordOf(v[word:], c.Arch))
	}
}

func (w *otherWrite) add(g *Group, at, n uint64) {
	if w.target == nil || n == 0 {
		return
	}
	old := make([]byte, min(n, maxOtherWrite))
	if g.k.ReadMem(w.target.TID, old, addr.Addr(at)) == len(old) {
		w.parts = append(w.parts, otherPart{addr.Addr(at), old})
	}
}

// wroteOther tells of what a call has written in another tracee.
func (g *Group) wroteOther(t *Thread, c *Call) {
	w := t.other
	t.other = nil
	if w == nil || c.Ret <= 0 || w.target.over() {
		return
	}
	left := int(c.Ret)
	for _, p := range w.parts {
		n := min(left, len(p.old))
		now := make([]byte, n)
		if n > 0 && g.k.ReadMem(w.target.TID, now, p.at) == n {
			g.opts.Poked(w.target, p.at, p.old[:n], now)
		}
		left -= n
	}
}

// memoryOf is another tracee whose memory a descriptor of a thread is, nil for none.
func (g *Group) memoryOf(t *Thread, fd int32) *Thread {
	name := string(g.fdNameOf(t, fd))
	name, found := strings.CutSuffix(name, "/mem")
	if name, proc := strings.CutPrefix(name, "/proc/"); found && proc {
		if i := strings.LastIndexByte(name, '/'); i >= 0 { // of /proc/PID/task/TID
			name = name[i+1:]
		}
		if pid, err := strconv.Atoi(name); err == nil {
			if o := g.threads[pid]; o != nil && o.Space != t.Space {
				return o
			}
		}
	}
	return nil
}

// offsetOf is where a descriptor of a thread reads and writes next.
func offsetOf(tid int, fd int32) uint64 {
	text, err := procfs.FDInfo(tid, int(fd))
	if err != nil {
		return 0
	}
	n, _ := proctext.Field(text, "pos").Number()
	return n
}
