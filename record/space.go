//go:build linux

package record

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/procfs"
)

// newSpace opens the address space of a stopped thread and reads its mappings.
// The caller writes them down.
func (r *Recorder) newSpace(tid int) (*space, error) {
	fs, err := procfs.Open(tid)
	if err != nil {
		return nil, err
	}
	// A thread that is still in a call may change what is being read in pieces.
	for range 8 {
		var vs []vma.VMA
		if vs, err = fs.Maps(); err != nil {
			break
		}
		var set *vma.Set
		if set, err = vma.NewSet(vs); err == nil {
			mm := r.addSpace(tid, set)
			mm.fs = fs
			r.findGrowing(mm)
			return mm, nil
		}
	}
	fs.Close()
	return nil, err
}

// emptySpace stands for an address space that was gone before it could be read.
func (r *Recorder) emptySpace(tid int) *space { return r.addSpace(tid, &vma.Set{}) }

func (r *Recorder) addSpace(tid int, set *vma.Set) *space {
	r.lastMM++
	mm := &space{no: r.lastMM, users: map[*thread]struct{}{}, pid: tid, vmas: set}
	r.mms[mm] = struct{}{}
	if p := &r.opts.Snapshot; p.Step || p.Every > 0 || !p.Syscalls.Empty() {
		r.wantTracking(mm)
	}
	return mm
}

func (r *Recorder) join(t *thread, mm *space) {
	t.mm = mm
	for u := range mm.users {
		mm.shared = mm.shared || u.proc != t.proc
		break
	}
	mm.users[t] = struct{}{}
}

// leave takes a thread out of its address space, and the address space out of
// the state if it was the last.
func (r *Recorder) leave(t *thread) {
	mm := t.mm
	if mm == nil {
		return
	}
	delete(mm.users, t)
	if len(mm.users) > 0 {
		if mm.pid == t.tid && mm.fs != nil { // its files in /proc went with it
			for u := range mm.users {
				if u.exiting {
					continue
				}
				if fs, err := procfs.Open(u.tid); err == nil {
					mm.fs.Close()
					mm.fs, mm.pid = fs, u.tid
					break
				}
			}
		}
		return
	}
	if mm.fs != nil {
		mm.fs.Close()
	}
	if mm.track.uffd != nil {
		mm.track.uffd.Close()
	}
	delete(r.mms, mm)
	r.change(&format.MMDrop{MM: mm.no})
}

// fork gives child a copy of an address space, as the kernel made it: not
// everything is inherited (MADV_DONTFORK, MADV_WIPEONFORK).
func (r *Recorder) fork(child *thread, parent *space) {
	if parent.track.watch != nil {
		parent.track.watch.forked = true
	}
	mm, err := r.newSpace(child.tid)
	if err != nil {
		mm = r.emptySpace(child.tid)
	}
	r.join(child, mm)
	r.change(&format.MMNew{MM: mm.no, From: parent.no})
	copied := parent.vmas.Clone()
	// Stacks of threads are known by their kind, which /proc does not tell.
	now := make([]vma.VMA, 0, mm.vmas.Len())
	for v := range mm.vmas.All() {
		if o, ok := copied.Find(v.Start); ok && o.Kind == vma.ThreadStack && v.Kind == vma.AnonPrivate && o.Range == v.Range {
			v.Kind = o.Kind
		}
		now = append(now, v)
	}
	r.edits(mm.no, copied.Update(addr.Range{End: ^addr.Addr(0)}, now))
	mm.vmas = copied
	parent.wipe = slices.DeleteFunc(parent.wipe, func(w addr.Range) bool {
		for range parent.vmas.Overlapping(w) {
			return false
		}
		return true // it has been unmapped
	})
	mm.brk, mm.grow, mm.wipe = parent.brk, append([]addr.Addr(nil), parent.grow...), append([]addr.Range(nil), parent.wipe...)
	mm.uffd = parent.uffd
	mm.track.lazy = slices.Concat(parent.track.freed, parent.track.lazy)
	for _, w := range mm.wipe {
		r.change(&format.Pages{MM: mm.no, Addr: w.Start, N: w.Len() / addr.PageSize, What: format.PageAbsent})
	}
}

// edits writes down how a table changed.
func (r *Recorder) edits(mm uint32, es []vma.Edit) {
	for _, e := range es {
		if e.Del {
			r.change(&format.VMADel{MM: mm, Range: e.VMA.Range})
		} else {
			r.change(&format.VMASet{MM: mm, VMA: e.VMA})
		}
	}
}

// mappingAt asks the kernel for the mapping at or above a.
func (r *Recorder) mappingAt(mm *space, a addr.Addr) (vma.VMA, bool, error) {
	if mm.fs == nil || r.noQuery {
		return vma.VMA{}, false, errors.ErrUnsupported
	}
	v, ok, err := mm.fs.Mapping(a)
	if errors.Is(err, errors.ErrUnsupported) {
		r.noQuery = true
	}
	return v, ok, err
}

// userEnd is above every address that a program can map.
const userEnd addr.Addr = 1 << 63

// ask brings the table up to date around a range that a call may have changed.
func (r *Recorder) ask(mm *space, at addr.Range) {
	// The vsyscall page above all is not the process's own: the kernel's answers
	// leave it out, and nothing changes it.
	if at.End = min(at.End, userEnd); at.Empty() {
		return
	}
	window := mm.vmas.Widen(at)
	for {
		r.found = r.found[:0]
		grown := window
		for a := window.Start; a < window.End; {
			v, ok, err := r.mappingAt(mm, a)
			if err != nil {
				r.refresh(mm)
				return
			}
			if !ok || v.Start >= window.End {
				break
			}
			grown = grown.Union(v.Range)
			r.found = append(r.found, v)
			a = v.End
		}
		if grown == window {
			break
		}
		window = mm.vmas.Widen(grown)
	}
	r.update(mm, window, r.found)
}

// refresh brings the whole table up to date.
func (r *Recorder) refresh(mm *space) {
	if mm.fs == nil {
		return
	}
	text, err := mm.fs.MapsText()
	if err != nil || len(text) == 0 {
		return // gone: its end will be told
	}
	if bytes.Equal(text, mm.text) && !mm.changed {
		return
	}
	r.found, err = procfs.ParseMaps(r.found[:0], text)
	if err != nil {
		return
	}
	r.update(mm, addr.Range{End: ^addr.Addr(0)}, r.found)
	mm.text, mm.changed = append(mm.text[:0], text...), false
}

// update puts what the kernel said into the table and the log.
func (r *Recorder) update(mm *space, window addr.Range, now []vma.VMA) {
	for i := range now {
		if now[i].Kind != vma.AnonPrivate {
			continue
		}
		for _, s := range mm.stacks {
			if now[i].Contains(s) {
				now[i].Kind = vma.ThreadStack
			}
		}
	}
	es := mm.vmas.Update(window, now)
	if len(es) > 0 {
		mm.changed = true
		r.edits(mm.no, es)
	}
}

// findGrowing notes the mappings that grow without a call: the main stack, and
// what smaps says grows down where the program asked for that.
func (r *Recorder) findGrowing(mm *space) {
	mm.grow = mm.grow[:0]
	for v := range mm.vmas.All() {
		if v.Kind == vma.MainStack {
			mm.grow = append(mm.grow, v.End-1)
		}
	}
}

// refreshGrowth looks whether a growing mapping has grown.
func (r *Recorder) refreshGrowth(mm *space) {
	for i := 0; i < len(mm.grow); i++ {
		a := mm.grow[i]
		if _, there := mm.vmas.Find(a); !there && i > 0 { // it has been unmapped
			mm.grow = slices.Delete(mm.grow, i, i+1)
			i--
			continue
		}
		now, ok, err := r.mappingAt(mm, a)
		if err != nil || !ok {
			if errors.Is(err, errors.ErrUnsupported) {
				r.refresh(mm)
			}
			return
		}
		if old, ok := mm.vmas.Find(a); ok && old.Start != now.Start && now.Contains(a) {
			r.ask(mm, now.Range)
		}
	}
}

// markStack notes the mapping that a new thread has its stack in.
func (r *Recorder) markStack(mm *space, c cloneArgs) {
	const thread = 0x10000 // CLONE_THREAD
	if c.stack == 0 || c.flags&thread == 0 {
		return
	}
	a := addr.Addr(c.stack - 1)
	v, ok := mm.vmas.Find(a)
	if !ok || v.Kind != vma.AnonPrivate && v.Kind != vma.ThreadStack {
		return
	}
	// The addresses of stacks whose mapping is gone are of no use.
	kept := mm.stacks[:0]
	for _, s := range mm.stacks {
		if o, ok := mm.vmas.Find(s); ok && o.Kind == vma.ThreadStack && o.Range != v.Range {
			kept = append(kept, s)
		}
	}
	mm.stacks = append(kept, a)
	if v.Kind == vma.AnonPrivate {
		v.Kind = vma.ThreadStack
		mm.vmas.Insert(v)
		r.change(&format.VMASet{MM: mm.no, VMA: v})
	}
}

// pathsChanged serves a call that may have changed the names of files: those of
// every address space that has such a file mapped are read again. A name can
// only change in the component that the call named.
func (r *Recorder) pathsChanged(t *thread) {
	names := t.lastComponents()
	for mm := range r.mms {
		if names == nil || mm.mentions(names) {
			r.refresh(mm)
		}
	}
}

// lastComponents are the last components of the paths that the call was given,
// nil where they are not known: a mount may change any.
func (t *thread) lastComponents() []string {
	row, _ := t.call.Arch.Syscall(t.call.Nr)
	if !strings.HasPrefix(row.Name, "rename") && !strings.HasPrefix(row.Name, "unlink") && row.Name != "rmdir" {
		return nil
	}
	var names []string
	for _, b := range t.read.Bufs {
		if b.Out {
			continue
		}
		name := path.Base(string(bytes.TrimRight(b.Data, "\x00")))
		if b.More || name == "." || name == ".." || name == "/" {
			return nil
		}
		names = append(names, name)
	}
	return names
}

// mentions says whether a mapped file has one of names in its path.
func (mm *space) mentions(names []string) bool {
	last := ""
	for v := range mm.vmas.All() {
		if v.Name == last || !v.File() {
			continue
		}
		last = v.Name
		for _, n := range names {
			if i := strings.Index(last, n); i > 0 {
				return true
			}
		}
	}
	return false
}

// nstid is a thread's tid in its own PID namespace.
func (r *Recorder) nstid(t *thread) uint32 {
	if !r.pidns {
		return uint32(t.tid)
	}
	status, err := procfs.Status(t.tid)
	if err != nil {
		return uint32(t.tid)
	}
	s, _ := procfs.Field(status, "NSpid")
	fields := strings.Fields(s)
	if len(fields) == 0 {
		return uint32(t.tid)
	}
	n, err := strconv.ParseUint(fields[len(fields)-1], 10, 32)
	if err != nil {
		return uint32(t.tid)
	}
	return uint32(n)
}

func hexField(status []byte, name string) uint64 {
	s, _ := procfs.Field(status, name)
	n, _ := strconv.ParseUint(s, 16, 64)
	return n
}
