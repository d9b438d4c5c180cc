package analyze

import (
	"context"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// StackUse is what one system call did with one stack in one process.
type StackUse struct {
	Node  format.StackNode // 0: it has no stack
	Who   string           // who got memory without a stack: "(exec)"
	PID   uint32
	Call  string // "" where it was no call
	Calls uint64
	// Bytes: mapped, made accessible, and of that what is there at the end.
	Mapped, Committed, Live int64
}

// useKey tells uses apart.
type useKey struct {
	node format.StackNode
	who  string
	pid  uint32
	arch arch.ID
	nr   uint32
}

// StackUses are all that happened with stacks in the options' range. Memory that was got
// without a stack is there too. each, which may be nil, is called at each event; committed
// tells how many bytes of an address space are committed then.
func StackUses(ctx context.Context, t *replay.Trace, o Options, each func(m *replay.Moment, committed func(mm uint32) int64) error) ([]StackUse, error) {
	s, err := t.Before(o.From)
	if err != nil {
		return nil, err
	}
	uses := map[useKey]*holding{}
	calls := map[*holding]uint64{}
	var order []useKey
	get := func(k useKey) *holding {
		h := uses[k]
		if h == nil {
			h = &holding{}
			uses[k] = h
			order = append(order, k)
		}
		return h
	}
	var now useKey
	b := newBooks(t, s, o, func(_ *format.Event, who string) *holding {
		if who != "" {
			return get(useKey{who: who, pid: now.pid})
		}
		return get(now)
	})
	committed := func(mm uint32) int64 {
		if s := b.spaces[mm]; s != nil {
			return s.size
		}
		return 0
	}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		now = useKey{node: m.Event.Stack, pid: m.Thread.TGID}
		if c, ok := m.Event.Record.(*format.Syscall); ok {
			now.arch, now.nr = c.Arch, c.Nr
			if m.Event.Stack != 0 && o.mine(m) {
				calls[get(now)]++
			}
		}
		if err := b.see(m); err != nil {
			return nil, err
		}
		if each != nil {
			if err := each(m, committed); err != nil {
				return nil, err
			}
		}
	}
	var list []StackUse
	for _, k := range order {
		h := uses[k]
		u := StackUse{Node: k.node, Who: k.who, PID: k.pid, Calls: calls[h], Mapped: h.mapped, Committed: h.committed, Live: h.live + h.left}
		if u.Calls > 0 {
			u.Call = replay.CallName(k.arch, k.nr)
		}
		if u.Calls > 0 || u.Mapped > 0 || u.Committed > 0 {
			list = append(list, u)
		}
	}
	return list, nil
}
