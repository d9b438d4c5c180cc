package web

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// Metrics are what stacks can be weighed by, with their units.
var Metrics = []struct{ Name, Unit string }{{"live", "bytes"}, {"net", "bytes"}, {"mapped", "bytes"}, {"calls", "calls"}, {"time", "ns"}}

// leastShare is the part of the whole from which on a function is shown by itself.
const leastShare = 1000

// stackUse is what was done with one stack.
type stackUse struct {
	node         format.StackNode
	who          string
	live, mapped int64
	calls, time  int64
	grew, shrank int64 // bytes that its calls mapped, and unmapped
}

// Stacks are who asked for memory, as a tree.
func (l *Log) Stacks(ctx context.Context, metric string, q Query, progress func(float64)) (*Stacks, error) {
	i := slices.IndexFunc(Metrics, func(m struct{ Name, Unit string }) bool { return m.Name == metric })
	if i < 0 {
		return nil, fmt.Errorf("metric=%s: want live, net, mapped, calls or time", metric)
	}
	r := &Stacks{Metric: metric, Unit: Metrics[i].Unit, Why: analyze.NoStacks(l.t)}
	if r.Why != "" {
		return r, nil
	}
	v, err := l.once(ctx, key("stacks", q), progress, func(ctx context.Context, progress func(float64)) (any, error) {
		return l.stackUses(ctx, q, progress)
	})
	if err != nil {
		return nil, err
	}
	uses := v.([]*stackUse)
	root := &Node{Name: "all"}
	names := map[string]*Node{}
	for _, u := range uses {
		grew, shrank := u.weigh(metric)
		if grew == 0 && shrank == 0 {
			continue
		}
		path, err := l.path(u, names)
		if err != nil {
			return nil, err
		}
		root.put(path, grew, shrank)
	}
	if root.width() == 0 {
		r.Why = "No call with a stack has anything of it."
		return r, nil
	}
	root.prune(root.width() / leastShare)
	r.Root = root
	return r, nil
}

func (u *stackUse) weigh(metric string) (grew, shrank int64) {
	switch metric {
	case "live":
		return max(u.live, 0), 0
	case "net":
		return u.grew, u.shrank
	case "mapped":
		return u.mapped, 0
	case "calls":
		return u.calls, 0
	}
	return u.time, 0
}

// stackUses goes over the log once.
func (l *Log) stackUses(ctx context.Context, q Query, progress func(float64)) ([]*stackUse, error) {
	o := l.options(q)
	o.Progress = passes(l.t, progress)
	by := map[format.StackNode]*stackUse{}
	var list []*stackUse
	get := func(node format.StackNode) *stackUse {
		u := by[node]
		if u == nil {
			u = &stackUse{node: node}
			by[node] = u
			list = append(list, u)
		}
		return u
	}
	uses, err := analyze.StackUses(ctx, l.t, o, func(m *replay.Moment, _ func(uint32) int64) error {
		s, ok := m.Event.Record.(*format.Syscall)
		if !ok || m.Event.Stack == 0 || q.PID != 0 && m.Thread.TGID != q.PID {
			return nil
		}
		u := get(m.Event.Stack)
		u.calls++
		u.time += int64(replay.Elapsed(m.Event, s))
		for _, c := range m.Changes {
			if n := c.Growth(); n > 0 {
				u.grew += n
			} else {
				u.shrank -= n
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range uses {
		x := &uses[i]
		var u *stackUse
		if x.Node != 0 {
			u = get(x.Node)
		} else {
			u = &stackUse{who: cmp.Or(x.Who, "(no stack)")}
			list = append(list, u)
		}
		u.live += x.Live
		u.mapped += x.Mapped
	}
	return list, nil
}

// path are the functions of a stack from the outermost to the innermost, each with what is
// known of it.
func (l *Log) path(u *stackUse, names map[string]*Node) ([]*Node, error) {
	one := func(n Node) *Node {
		k := fmt.Sprintf("%s\x00%s\x00%s\x00%d", n.Name, n.Module, n.File, n.Line)
		if names[k] == nil {
			names[k] = &n
		}
		return names[k]
	}
	if u.node == 0 {
		return []*Node{one(Node{Name: shown(u.who)})}, nil
	}
	s, err := l.t.Stack(u.node, true)
	if err != nil {
		return nil, err
	}
	var path []*Node
	for _, f := range frames(s) {
		name := f.Function
		if name == "" {
			name = f.Addr
		}
		path = append(path, one(Node{Name: name, Module: f.Module, File: f.File, Line: f.Line}))
	}
	if why := s.EndText(); why != "" {
		path = append(path, one(Node{Name: "... " + shown(why)}))
	}
	slices.Reverse(path)
	return path, nil
}

func (n *Node) width() int64 { return n.Grew + n.Shrank }

// put adds a stack below n. A function is told from another by its name, file and line.
func (n *Node) put(path []*Node, grew, shrank int64) {
	n.Grew += grew
	n.Shrank += shrank
	if len(path) == 0 {
		return
	}
	p := path[0]
	i := slices.IndexFunc(n.Children, func(c *Node) bool {
		return c.Name == p.Name && c.Module == p.Module && c.File == p.File && c.Line == p.Line
	})
	if i < 0 {
		i = len(n.Children)
		n.Children = append(n.Children, &Node{Name: p.Name, Module: p.Module, File: p.File, Line: p.Line})
	}
	n.Children[i].put(path[1:], grew, shrank)
}

// prune sums up what is narrower than least, and puts the widest first.
func (n *Node) prune(least int64) {
	other := &Node{Name: "(other)"}
	kept := n.Children[:0]
	for _, c := range n.Children {
		if c.width() < least {
			other.Grew += c.Grew
			other.Shrank += c.Shrank
			continue
		}
		c.prune(least)
		kept = append(kept, c)
	}
	n.Children = kept
	slices.SortStableFunc(n.Children, func(a, b *Node) int { return cmp.Or(cmp.Compare(b.width(), a.width()), cmp.Compare(a.Name, b.Name)) })
	if other.width() > 0 {
		n.Children = append(n.Children, other)
	}
}
