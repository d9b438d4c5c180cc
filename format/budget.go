package format

import "memtrace/format/vma"

// budget bounds what a state takes and what it costs to bring it about. A log of
// a few bytes can tell of a million address spaces, and of a million changes to
// each.
type budget struct {
	used  int64 // bytes, an upper bound: what is let go is found by counting again
	limit int64 // 0 for none

	over   bool   // one change alone takes more than half the limit
	work   uint64 // units of about 4 ns
	effort uint64 // the most, 0 for no limit
}

// What a reader allows for a log of a size, in bytes and units. Logs that record
// writes stay far below.
const (
	minState   = 128 << 20
	stateRatio = 64
	minEffort  = 1 << 28
	effortRate = 1 << 8
)

func stateBudget(size, limit int64) budget {
	b := budget{limit: minState + stateRatio*min(size, 1<<40), effort: minEffort + effortRate*uint64(size)}
	if limit > 0 {
		// Who allows more memory than that allows more time as well.
		b.effort = max(b.effort, uint64(limit)*(minEffort/minState))
		b.limit = limit
	}
	return b
}

// took notes n bytes that were allocated.
func (b *budget) took(n int64) {
	b.used += n
	b.work += uint64(n) / 16
}

// read notes n bytes that were decoded.
func (b *budget) read(n int) { b.work += uint64(n) / 4 }

// worked checks the effort so far.
func (b *budget) worked() error {
	if b.effort > 0 && b.work > b.effort {
		return overBudget("the effort to follow what the log tells", b.work, b.effort)
	}
	return nil
}

// over says whether the change at hand takes so much that it must stop: the budget
// was kept when it began. The state is of no use then, and room says so.
func (p *pageMap) over() bool {
	if b := p.mem; b != nil && b.limit > 0 && b.used > b.limit+b.limit/2 {
		b.over = true
	}
	return p.mem != nil && p.mem.over
}

// fits says whether n bytes more can be had, without counting again.
func (b *budget) fits(what string, n int64) error {
	if b.limit > 0 && b.used+n > b.limit {
		return overBudget(what, uint64(b.used+n), uint64(b.limit))
	}
	return nil
}

// What the parts of a state take that are not page maps, in bytes.
const (
	threadBytes = 160
	mmBytes     = 448
)

// counted is what counting a state's memory has seen: what address spaces share
// counts once.
type counted struct {
	dirs    map[*dent]bool
	regions map[*region]bool
	nodes   map[*node]bool
	lists   map[*Written]bool
	vmas    vma.Counted
}

// room checks what the state takes and what it has cost.
func (s *State) room() error {
	if err := s.mem.worked(); err != nil {
		return err
	}
	if s.mem.limit == 0 || s.mem.used <= s.mem.limit {
		return nil
	}
	if s.mem.over {
		return overBudget("the memory that one change of the state takes,", uint64(s.mem.used), uint64(s.mem.limit))
	}
	if s.mem.used = s.size(); s.mem.used > s.mem.limit-s.mem.limit/4 {
		return overBudget("the memory of the state, its threads, mappings and pages,", uint64(s.mem.used), uint64(s.mem.limit))
	}
	return nil
}

// size is what the state takes, in bytes.
func (s *State) size() int64 {
	seen := counted{dirs: map[*dent]bool{}, regions: map[*region]bool{}, nodes: map[*node]bool{}, lists: map[*Written]bool{}}
	n := int64(len(s.Threads))*threadBytes + int64(len(s.MMs))*mmBytes
	for _, m := range s.MMs {
		n += m.pages.size(&seen) + m.VMAs.Memory(&seen.vmas)
		if l := m.written.list; cap(l) > 0 && !seen.lists[&l[:1][0]] {
			seen.lists[&l[:1][0]] = true
			n += int64(cap(l)) * writtenBytes
		}
	}
	return n
}
