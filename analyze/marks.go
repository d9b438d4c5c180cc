package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// mark is a moment of a run that another run of the same program has too.
type mark struct {
	name string
	step format.Step
}

// ownMark is how the data of a program's own marks begins: write(-1, "memtrace: NAME").
const ownMark = "memtrace: "

// marksOf are the marks of a run in order: the exec of its first process's program, the last
// library that this maps before any other mark, its first listen and accept, its own marks, its
// first signal that was not a child's, and the last step at which the first process has its memory.
// Each name is there once.
func marksOf(ctx context.Context, t *replay.Trace) (out []mark, err error) {
	lives, err := t.Lives(ctx)
	if err != nil || len(lives) == 0 {
		return nil, err
	}
	main := &lives[0]
	add := func(name string, n format.Step) {
		if name != "" && !slices.ContainsFunc(out, func(m mark) bool { return m.name == name }) {
			out = append(out, mark{name, n})
		}
	}
	exec, loaded := format.Step(0), format.Step(0)
	if n := len(main.Execs); n > 0 {
		exec = main.Execs[n-1].Step
		add("exec", exec)
	}
	started := len(out)
	for m, err := range walk(ctx, t, allOf(t)) {
		if err != nil {
			return nil, err
		}
		if len(out) == started && m.Event.Step > exec && m.Thread.TGID == main.PID && mapsCode(m) {
			loaded = m.Event.Step
		}
		switch r := m.Event.Record.(type) {
		case *format.Signal:
			if r.Signo != 17 { // SIGCHLD
				add("signal", m.Event.Step)
			}
		case *format.Syscall:
			add(markOfCall(r), m.Event.Step)
		}
	}
	if loaded > 0 {
		out = append(out, mark{"loaded", loaded})
	}
	if main.Ended && main.Last > 0 {
		out = append(out, mark{"exit", main.Last - 1})
	}
	slices.SortStableFunc(out, func(a, b mark) int { return cmp.Compare(a.step, b.step) })
	return out, nil
}

// mapsCode says whether an event maps a file that can be executed.
func mapsCode(m *replay.Moment) bool {
	return slices.ContainsFunc(m.Changes, func(c replay.Change) bool {
		return c.Growth() > 0 && c.VMA.Prot&addr.Exec != 0 && c.VMA.File()
	})
}

// markOfCall is the mark that a call makes, "" if none.
func markOfCall(r *format.Syscall) string {
	switch name := replay.CallName(r.Arch, r.Nr); name {
	case "listen", "accept", "accept4":
		return strings.TrimSuffix(name, "4")
	case "write":
		if int32(r.Args[0]) != -1 {
			return ""
		}
		for i := range r.Bufs {
			if own, ok := strings.CutPrefix(string(r.Bufs[i].Data), ownMark); ok && !r.Bufs[i].Out {
				return strings.TrimSpace(own)
			}
		}
	}
	return ""
}

// phase is a part of a run: steps from..to, both included.
type phase struct {
	name     string
	from, to format.Step
	end      bool // the last before the first process ended
}

// commonMarks are the names that all runs have, in the order of the first; what another
// run has in another order is left out.
func commonMarks(runs [][]mark) (names []string) {
	at := make([]int, len(runs))
next:
	for _, m := range runs[0] {
		found := make([]int, len(runs))
		for i, r := range runs {
			k := slices.IndexFunc(r[at[i]:], func(o mark) bool { return o.name == m.name })
			if k < 0 {
				continue next
			}
			found[i] = at[i] + k + 1
		}
		copy(at, found)
		names = append(names, m.name)
	}
	return names
}

// Aligns are the ways in which runs are cut into phases.
var Aligns = []string{"markers", "time", "events", "end"}

// phases cuts runs into phases that have the same names in all of them.
func phases(ctx context.Context, runs []*replay.Trace, align string) (out [][]phase, err error) {
	marks := make([][]mark, len(runs))
	atOnce, alone := true, true // runs begin with the exec; they end when their first process does
	for i, t := range runs {
		if marks[i], err = marksOf(ctx, t); err != nil {
			return nil, err
		}
		atOnce = atOnce && stepOf(marks[i], "exec") == 0
		alone = alone && endsAlone(t, marks[i])
	}
	names := commonMarks(marks)
	if align == "markers" && names == nil {
		align = "time"
	}
	for i, t := range runs {
		ps, err := phasesOf(t, align, marks[i], names)
		if err != nil {
			return nil, err
		}
		end := len(ps) - 1
		switch exit := stepOf(marks[i], "exit"); {
		case align == "markers" && names[len(names)-1] == "exit":
			if end--; alone {
				ps = ps[:end+1]
			}
		case exit >= 0 && alone:
			ps[end].to = max(format.Step(exit), ps[end].from)
		}
		ps[end].end = true
		if align == "markers" && names[0] == "exec" && atOnce && len(ps) > 1 {
			ps[1].from = 0
			ps = ps[1:]
		}
		out = append(out, ps)
	}
	return out, nil
}

// stepOf is the step of a mark, -1 if there is none.
func stepOf(marks []mark, name string) int64 {
	k := slices.IndexFunc(marks, func(m mark) bool { return m.name == name })
	if k < 0 {
		return -1
	}
	return int64(marks[k].step)
}

// endsAlone says whether nothing but the end of the first process follows its last step.
func endsAlone(t *replay.Trace, marks []mark) bool {
	last, _ := t.Last()
	exit := stepOf(marks, "exit")
	return exit < 0 || int64(last) <= exit+1
}

// phasesOf cuts a run.
func phasesOf(t *replay.Trace, align string, marks []mark, names []string) (ps []phase, err error) {
	last, _ := t.Last()
	cut := func(name string, to format.Step) {
		from := t.First()
		if len(ps) > 0 {
			from = ps[len(ps)-1].to + 1
		}
		ps = append(ps, phase{name: name, from: min(from, to), to: to})
	}
	switch align {
	case "markers":
		begin := "start"
		for _, name := range names {
			cut(begin+".."+name, format.Step(stepOf(marks, name)))
			begin = name
		}
		cut(begin+"..end", last)
	case "time", "events":
		for q := 1; q < 4; q++ {
			to := t.First() + (last-t.First())*format.Step(q)/4
			if align == "time" {
				if to, err = t.StepOf(fmt.Sprintf("-%dns", remaining(t, q))); err != nil {
					return nil, err
				}
			}
			cut(fmt.Sprintf("%d..%d %%", 25*(q-1), 25*q), to)
		}
		cut("75..100 %", last)
	default:
		cut("run", last)
	}
	return ps, nil
}

// remaining is how long a run goes on after q quarters of it, in ns.
func remaining(t *replay.Trace, q int) uint64 {
	last, _ := t.Last()
	times, err := t.Times(last)
	if err != nil {
		return 0
	}
	return times[0] * uint64(4-q) / 4
}
