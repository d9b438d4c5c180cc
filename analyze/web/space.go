package web

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Limits of what is told of an address space.
const (
	MostCells    = 512
	MostMemory   = 64 << 10
	mostMappings = 1000
)

// What a cell of a mapping is; a cell of several pages is the greatest of theirs.
const (
	cellUnknown = iota
	cellZero
	cellFile
	cellWritten
	cellNew
)

// at is the state at a step, and a process that lives then: the one with the pid, or the
// first.
func (l *Log) at(n format.Step, pid uint32) (*replay.View, *replay.Process, error) {
	v, err := l.t.At(n)
	if err != nil {
		return nil, nil, err
	}
	if pid != 0 {
		p, err := v.Process(pid)
		return v, p, err
	}
	ps := v.Processes()
	if len(ps) == 0 {
		return nil, nil, fmt.Errorf("step %d: %w", n, replay.ErrNoProcess)
	}
	return v, ps[0], nil
}

// ErrGone is the error of a process that has no address space any more.
var ErrGone = errors.New("no address space")

// space is the address space of a process, at a step at which it has one.
func space(p *replay.Process) (*replay.AddressSpace, error) {
	s, err := p.Space()
	if err != nil && !errors.Is(err, replay.ErrUnknown) {
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	return s, err
}

// Maps is the address space of a process, each mapping with what is known of its pages in at
// most so many cells.
func (l *Log) Maps(at format.Step, pid uint32, cells int) (*Maps, error) {
	if cells < 1 || cells > MostCells {
		return nil, fmt.Errorf("cells=%d: want 1 to %d", cells, MostCells)
	}
	v, p, err := l.at(at, pid)
	if err != nil {
		return nil, err
	}
	space, err := space(p)
	if err != nil {
		return nil, err
	}
	r := &Maps{At: uint64(at), PID: p.PID, Mappings: []Mapping{}}
	last, before := l.snapshots(space.No(), uint64(at))
	r.Last = last
	mm := v.State.MMs[space.No()]
	for m := range space.Mappings() {
		x, err := mapping(mm, m, cells, before)
		if err != nil {
			return nil, err
		}
		if b, ok := l.sum.bornAt(placeKey{space.No(), m.Start}, uint64(at)); ok {
			x.Since, x.By = ptr(b.step), b.by
		}
		r.Total.add(&x.Known)
		r.Mappings = append(r.Mappings, x)
	}
	if len(r.Mappings) > mostMappings {
		slices.SortStableFunc(r.Mappings, func(a, b Mapping) int { return cmp.Compare(b.Bytes, a.Bytes) })
		r.Left = len(r.Mappings) - mostMappings
		for i := range r.Mappings[mostMappings:] {
			r.LeftBytes += r.Mappings[mostMappings+i].Bytes
		}
		r.Mappings = r.Mappings[:mostMappings]
		slices.SortFunc(r.Mappings, func(a, b Mapping) int {
			return cmp.Or(cmp.Compare(len(a.Start), len(b.Start)), cmp.Compare(a.Start, b.Start))
		})
	}
	return r, nil
}

// snapshots are the steps of the last snapshot of an address space at or before a step, and
// of the one before it, as far as the summary has them.
func (l *Log) snapshots(mm uint32, at uint64) (last, before *uint64) {
	l.sum.mu.RLock()
	defer l.sum.mu.RUnlock()
	list := l.sum.snapped[mm]
	i := sort.Search(len(list), func(i int) bool { return list[i] > at })
	if i > 0 {
		last = ptr(list[i-1])
	}
	if i > 1 {
		before = ptr(list[i-2])
	}
	return last, before
}

func (k *Known) add(o *Known) {
	k.Bytes += o.Bytes
	k.Written += o.Written
	k.Zero += o.Zero
	k.File += o.File
	k.Unknown += o.Unknown
}

// mapping tells of one mapping.
func mapping(mm *format.MM, m vma.VMA, cells int, before *uint64) (Mapping, error) {
	x := Mapping{
		Start: hexAddr(m.Start), End: hexAddr(m.End), Perms: m.Prot.String(), Kind: m.Kind.String(), Name: shown(m.Name), Offset: fmt.Sprintf("0x%x", m.Offset),
		Known: Known{Bytes: m.Len()},
	}
	pages := (m.Len() + addr.PageSize - 1) / addr.PageSize
	n := min(uint64(cells), pages)
	is := make([]uint8, n)
	color := func(first, count uint64, what uint8) {
		for i := first * n / pages; i <= (first+count-1)*n/pages && i < n; i++ {
			is[i] = max(is[i], what)
		}
	}
	for run, err := range mm.Pages(m.Range) {
		if err != nil {
			return x, err
		}
		part := addr.Range{Start: run.Addr, End: run.Addr + addr.Addr(run.N<<addr.PageShift)}.Intersect(m.Range)
		if part.Empty() {
			continue
		}
		what := uint8(cellUnknown)
		switch run.What {
		case format.PageData:
			x.Written += part.Len()
			what = cellWritten
			if before != nil && uint64(run.Changed) > *before {
				what = cellNew
			}
		case format.PageZero:
			x.Zero += part.Len()
			what = cellZero
		case format.PageFile:
			x.File += part.Len()
			what = cellFile
		}
		color(uint64(part.Start-m.Start)>>addr.PageShift, (part.Len()+addr.PageSize-1)>>addr.PageShift, what)
	}
	for w := range mm.Written(m.Range) { // by calls, since the last capture
		first, last := uint64(w.Addr-m.Start)>>addr.PageShift, uint64(w.Addr-m.Start+addr.Addr(w.Len-1))>>addr.PageShift
		color(first, last-first+1, cellNew)
		x.call(mm, w)
	}
	x.Unknown = x.Bytes - min(x.Bytes, x.Written+x.Zero+x.File)
	x.Cells = runs(is)
	return x, nil
}

// call moves the bytes that a call wrote from what they were.
func (x *Mapping) call(mm *format.MM, w format.Written) {
	for at := w.Addr; at < w.Addr+addr.Addr(w.Len); {
		end := min(at.PageDown()+addr.PageSize, w.Addr+addr.Addr(w.Len))
		n := uint64(end - at)
		switch info, _ := mm.Page(at); info.What {
		case format.PageData:
			n = 0 // counts already
		case format.PageZero:
			x.Zero -= min(x.Zero, n)
		case format.PageFile:
			x.File -= min(x.File, n)
		}
		x.Written += n
		at = end
	}
}

// runs are neighbouring cells that are alike.
func runs(is []uint8) [][2]int {
	out := [][2]int{}
	for _, c := range is {
		if n := len(out); n > 0 && out[n-1][1] == int(c) {
			out[n-1][0]++
			continue
		}
		out = append(out, [2]int{1, int(c)})
	}
	return out
}

// Mem is the memory of a process. where is an address or a name (replay.ParseAddr).
func (l *Log) Mem(at format.Step, pid uint32, where string, n uint64) (*Mem, error) {
	if n < 1 || n > MostMemory {
		return nil, fmt.Errorf("len=%d: want 1 to %d bytes", n, MostMemory)
	}
	v, p, err := l.at(at, pid)
	if err != nil {
		return nil, err
	}
	space, err := space(p)
	if err != nil {
		return nil, err
	}
	if err := l.t.NameRegistersOf(space, p, v.Step); err != nil {
		return nil, err
	}
	a, err := replay.ParseAddr(where, space)
	if err != nil {
		return nil, err
	}
	rng, ok := addr.Span(a, n)
	if !ok {
		return nil, fmt.Errorf("%v and %d bytes: the address space ends before", a, n)
	}
	r := &Mem{At: uint64(at), PID: p.PID, Addr: hexAddr(a), Len: n, Pieces: []Piece{}}
	pieces, err := l.t.Provenance(space, rng)
	if err != nil {
		return nil, err
	}
	for i := range pieces {
		x := &pieces[i]
		one := Piece{
			Start: hexAddr(x.Range.Start), End: hexAddr(x.Range.End), Exact: x.Err == nil && x.AsOf == at, AsOf: uint64(x.AsOf), Call: x.Call,
			After: uint64(x.After), Changed: uint64(x.Changed),
		}
		if x.Err != nil {
			one.Unknown = shown(x.Err.Error())
		} else {
			one.Bytes = ptr(hex.EncodeToString(x.Bytes))
		}
		r.Pieces = append(r.Pieces, one)
	}
	return r, nil
}

// History tells what the bytes at an address were over the whole log, in order. where is an
// address or a name at the process's last step.
func (l *Log) History(ctx context.Context, pid uint32, where string, n uint64, progress func(float64), yield func(*Era) error) error {
	if n < 1 || n > 4096 {
		return fmt.Errorf("len=%d: want 1 to 4096 bytes", n)
	}
	rng, err := l.t.ParseHistory(ctx, fmt.Sprintf("%s:%d", where, n), pid)
	if err != nil {
		return err
	}
	return l.t.EachEra(ctx, rng, pid, progress, func(e *replay.Era) error {
		x := era(e)
		return yield(&x)
	})
}

// Find looks for bytes in all memory that the log holds. what is text, "text" or 0xBYTES.
func (l *Log) Find(ctx context.Context, pid uint32, what string, progress func(float64), yield func(*Found) error) error {
	want, err := replay.ParseBytes(what)
	if err != nil {
		return err
	}
	return l.t.EachFound(ctx, want, replay.FindOptions{PID: pid, Progress: progress}, func(f *replay.Found) error {
		return yield(&Found{
			Addr: hexAddr(f.Addr), From: uint64(f.From), To: uint64(f.To), FromTime: f.FromTime, ToTime: f.ToTime, Exact: f.Exact, ToEnd: f.End, Call: f.Call,
			PID: f.PID, Path: shown(f.Name), Count: f.Count, Stride: f.Stride, Last: hexAddr(f.Last),
		})
	})
}

// era is one for a page.
func era(e *replay.Era) Era {
	x := Era{
		From: uint64(e.From), To: uint64(e.To), FromTime: e.FromTime, ToTime: e.ToTime, Exact: e.Exact() || e.Err != nil && len(e.Value) == 0,
		ToEnd: e.End, Since: uint64(e.Since), Call: e.Call, Bytes: hex.EncodeToString(e.Value),
	}
	switch {
	case e.Err == nil:
		x.Seen = uint64(e.Seen)
	case errors.Is(e.Err, replay.ErrUnmapped):
		x.Unknown = replay.ErrUnmapped.Error()
	default:
		x.Unknown = replay.ErrUnknown.Error()
	}
	return x
}

// mostThreadStacks is how many threads are told of at once.
const mostThreadStacks = 200

// Threads are those of a process at a step.
func (l *Log) Threads(ctx context.Context, at format.Step, pid uint32) (*Threads, error) {
	_, p, err := l.at(at, pid)
	if err != nil {
		return nil, err
	}
	r := &Threads{At: uint64(at), PID: p.PID, Threads: []Thread{}}
	var ev *format.Event
	for e, err := range l.t.Events(at) {
		if err != nil {
			return nil, err
		}
		ev = e
		break
	}
	first := p.Thread(ev).No
	list := slices.Clone(p.Threads)
	slices.SortStableFunc(list, func(a, b format.Thread) int {
		if (a.No == first) == (b.No == first) {
			return cmp.Compare(a.No, b.No)
		}
		return cmp.Compare(boolInt(b.No == first), boolInt(a.No == first))
	})
	if r.Left = max(0, len(list)-mostThreadStacks); r.Left > 0 {
		list = list[:mostThreadStacks]
	}
	regs, err := l.t.Registers(at, list)
	if err != nil {
		return nil, err
	}
	for i := range regs {
		r.Threads = append(r.Threads, registers(&regs[i]))
	}
	space, err := space(p)
	if err != nil {
		for i := range r.Threads {
			r.Threads[i].Why = shown(err.Error())
		}
		return r, nil
	}
	stacks, err := l.t.Stacks(ctx, space, list, true)
	if err != nil {
		return nil, err
	}
	for i := range stacks {
		x := &r.Threads[i]
		x.Why, x.Logged = shown(stacks[i].Why), stacks[i].Logged
		if s := stacks[i].Stack; s != nil {
			x.Frames, x.Why = frames(s), s.EndText()
		}
	}
	return r, nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// registers is a thread with its registers.
func registers(r *replay.Registers) Thread {
	x := Thread{TID: r.Thread.TID, Registers: []Register{}, Frames: []Frame{}}
	if r.Values == nil {
		return x
	}
	x.AsOf = ptr(uint64(r.AsOf))
	names := r.Thread.Arch.Registers()
	for i, v := range r.Values {
		if i < len(names) {
			x.Registers = append(x.Registers, Register{names[i].Name, hexAddr(v)})
		}
	}
	return x
}

// frames are those of a stack; a call that was inlined has one of its own.
func frames(s *replay.NamedStack) []Frame {
	out := []Frame{}
	for i := range s.Frames {
		f := &s.Frames[i]
		one := Frame{
			Addr: hexAddr(f.Addr), Module: shown(f.FrameName.Module(&f.Frame)), Function: shown(f.Function), Offset: f.FrameName.Offset,
			Sure: !f.How.Guess() && !f.Inexact,
		}
		for k := range max(len(f.Places), 1) {
			x := one
			if k < len(f.Places) {
				p := &f.Places[k]
				x.File, x.Line, x.Inlined = shown(p.File), p.Line, k < len(f.Places)-1
				if x.Inlined {
					x.Function, x.Offset = shown(p.Function), 0
				}
			}
			out = append(out, x)
		}
	}
	return out
}

// mostDiffs is how many mappings, and how many runs of pages, a difference has.
const mostDiffs = 1000

// Diff is what differs in a process between two steps.
func (l *Log) Diff(ctx context.Context, from, to format.Step, pid uint32, progress func(float64)) (*Diff, error) {
	from, to = min(from, to), max(from, to)
	v, err := l.once(ctx, fmt.Sprintf("diff %d %d %d", from, to, pid), progress, func(ctx context.Context, progress func(float64)) (any, error) {
		return l.diff(ctx, from, to, pid, progress)
	})
	if err != nil {
		return nil, err
	}
	return v.(*Diff), nil
}

func (l *Log) diff(ctx context.Context, from, to format.Step, pid uint32, progress func(float64)) (*Diff, error) {
	d, err := l.t.Compare(ctx, from, to, pid, progress)
	if err != nil {
		return nil, err
	}
	d.Cut(mostDiffs)
	r := &Diff{
		From: uint64(d.From), To: uint64(d.To), FromTime: d.FromTime, ToTime: d.ToTime, PID: d.PID, Replaced: d.Replaced, More: d.More,
		Mappings: []MappingDiff{}, Pages: []PageRun{},
	}
	words := map[vma.Op]string{vma.Map: "mapped", vma.Unmap: "unmapped"}
	for i := range d.Mappings {
		m := &d.Mappings[i]
		x := MappingDiff{What: cmp.Or(words[m.Op], "changed"), Start: hexAddr(m.VMA.Start), End: hexAddr(m.VMA.End), Name: shown(m.VMA.Name), Kind: m.VMA.Kind.String()}
		say := func(v *vma.VMA) string {
			if v.Empty() {
				return ""
			}
			return shown(fmt.Sprintf("%s %s", v.Prot, replay.MappingName(*v)))
		}
		switch m.Op {
		case vma.Unmap:
			x.Old = say(&m.VMA)
		default:
			x.Old, x.New = say(&m.Old), say(&m.VMA)
		}
		r.Mappings = append(r.Mappings, x)
	}
	for i := range d.Pages {
		p := &d.Pages[i]
		r.Pages = append(r.Pages, PageRun{Start: hexAddr(p.Range.Start), End: hexAddr(p.Range.End), What: p.What.String(), Name: shown(p.Name)})
	}
	r.Kinds, err = l.kindDiffs(from, to, d.PID)
	return r, err
}

// kindDiffs are the kinds of memory of a process that differ between two steps.
func (l *Log) kindDiffs(from, to format.Step, pid uint32) ([]KindDiff, error) {
	var mapped, use [2][vma.NumKinds]int64
	var known [2]bool
	for i, n := range [2]format.Step{from, to} {
		v, p, err := l.at(n, pid)
		if err != nil {
			return nil, err
		}
		space, err := space(p)
		if err != nil {
			return nil, err
		}
		mm := v.State.MMs[space.No()]
		for m := range space.Mappings() {
			if m.Kind >= vma.NumKinds {
				continue
			}
			mapped[i][m.Kind] += int64(m.Len())
			for run, err := range mm.Pages(m.Range) {
				if err != nil {
					return nil, err
				}
				known[i] = true
				if run.What == format.PageData {
					use[i][m.Kind] += int64(run.N << addr.PageShift)
				}
			}
		}
	}
	list := []KindDiff{}
	for k := range vma.NumKinds {
		x := KindDiff{Kind: k.String(), From: mapped[0][k], To: mapped[1][k]}
		if known[0] && known[1] {
			x.UseA, x.UseB = ptr(use[0][k]), ptr(use[1][k])
		}
		if x.From != x.To || known[0] && known[1] && use[0][k] != use[1][k] {
			list = append(list, x)
		}
	}
	change := func(x *KindDiff) int64 { return max(x.To-x.From, x.From-x.To) }
	slices.SortStableFunc(list, func(a, b KindDiff) int { return cmp.Compare(change(&b), change(&a)) })
	return list, nil
}
