package replay

import (
	"slices"

	"memtrace/format"
)

// Origin is what a process was started with.
type Origin struct {
	Step format.Step // of the exec, or of the attach
	Path string
	Argv []string
	Auxv []byte // the auxiliary vector; nil if it is not in the log
}

// Origin finds what process p runs at step n: its last exec, or that of the
// parent it was forked from. The zero Origin says that the log does not tell.
func (t *Trace) Origin(n format.Step, p *Process) (Origin, error) {
	want := p.No
	for end, stride := n+1, format.Step(window); end > 0; stride *= 4 {
		from := end - min(end, stride)
		births, err := t.births(from, end)
		if err != nil {
			return Origin{}, err
		}
		for _, b := range slices.Backward(births) {
			if !slices.Contains(b.procs, want) {
				continue
			}
			if b.parent == 0 {
				return b.Origin, nil
			}
			want = b.parent
		}
		end = from
	}
	return Origin{}, nil
}

// birth is an event that gave processes their program: that of its own, or that
// of parent.
type birth struct {
	Origin
	procs  []uint32
	parent uint32
}

// births are those of the steps from <= n < end.
func (t *Trace) births(from, end format.Step) ([]birth, error) {
	var out []birth
	for ev, err := range t.r.Events(from) {
		if err != nil {
			return nil, err
		}
		if ev.Step >= end {
			break
		}
		b := birth{Origin: Origin{Step: ev.Step}}
		switch r := ev.Record.(type) {
		case *format.Exec:
			b.Path, b.Argv, b.Auxv = r.Path, slices.Clone(r.Argv), slices.Clone(r.Auxv)
		case *format.Attach:
			b.Path, b.Argv, b.Auxv = r.Path, slices.Clone(r.Argv), slices.Clone(r.Auxv)
		case *format.Clone:
		default:
			continue
		}
		_, fork := ev.Record.(*format.Clone)
		for _, c := range ev.Changes {
			c, ok := c.(*format.ThreadSet)
			switch {
			case !ok:
			case !fork:
				b.procs = append(b.procs, c.Thread.Proc)
			case c.Thread.No == c.Thread.Proc && c.Thread.Parent != 0:
				b.procs, b.parent = append(b.procs, c.Thread.Proc), c.Thread.Parent
			}
		}
		if len(b.procs) > 0 {
			out = append(out, b)
		}
	}
	return out, nil
}
