package web

import (
	"encoding/hex"
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// mostQuestion is how long a text to look for may be.
const mostQuestion = 4096

// Resolve is what a text that somebody typed can mean at a step, the likeliest first.
func (l *Log) Resolve(q string, at format.Step, pid uint32) (*Resolved, error) {
	r := &Resolved{Rows: []Meaning{}}
	q = strings.TrimSpace(q)
	if len(q) > mostQuestion {
		return nil, fmt.Errorf("%d bytes are too long: want at most %d", len(q), mostQuestion)
	}
	if q == "" {
		return r, nil
	}
	if q != "signal" && q != "crash" { // they take a pass over the log
		if n, err := l.t.StepOf(q); err == nil {
			if times, err := l.t.Times(n); err == nil {
				r.Rows = append(r.Rows, Meaning{What: "step", Label: fmt.Sprintf("go to step %d (%.6f s)", n, float64(times[0])/1e9), Step: ptr(uint64(n))})
			}
		}
	}
	quoted := strings.HasPrefix(q, `"`)
	if !quoted {
		r.addr(l, q, at, pid)
		r.calls(q)
	}
	if want, err := replay.ParseBytes(q); err == nil && len(want) <= replay.MaxPattern {
		label := fmt.Sprintf("find the text %s in memory", shown(q))
		if strings.HasPrefix(q, "0x") {
			label = fmt.Sprintf("find the %d bytes %s in memory", len(want), shown(q))
		}
		r.Rows = append(r.Rows, Meaning{What: "find", Label: label, Bytes: "0x" + hex.EncodeToString(want)})
	}
	return r, nil
}

// addr adds an address, or what has a name.
func (r *Resolved) addr(l *Log, q string, at format.Step, pid uint32) {
	if strings.Trim(q, "0123456789.%") == "" { // a number is a step
		return
	}
	v, p, err := l.at(at, pid)
	if err != nil {
		return
	}
	space, err := p.Space()
	if err != nil {
		return
	}
	_ = l.t.NameRegistersOf(space, p, v.Step) // without them, registers have no meaning
	a, err := replay.ParseAddr(q, space)
	if err != nil {
		return
	}
	m, ok := space.Set().Find(a)
	where := "not mapped at this step"
	if ok {
		where = replay.MappingName(m)
	}
	r.Rows = append(r.Rows, Meaning{What: "addr", Label: fmt.Sprintf("show memory at %v (%s)", a, shown(where)), Addr: hexAddr(a), Len: 256})
}

// calls adds filters.
func (r *Resolved) calls(q string) {
	if strings.ContainsAny(q, " \t") {
		if _, err := parseFilter(q, 0); err == nil {
			r.Rows = append(r.Rows, Meaning{What: "filter", Label: "show events: " + shown(q), Filter: q})
		}
		return
	}
	if _, err := arch.ParseSet(q); err == nil && strings.Trim(q, "0123456789") != "" {
		r.Rows = append(r.Rows, Meaning{What: "filter", Label: "show calls: " + shown(q), Filter: q})
	} else if _, err := parseFilter(q, 0); err == nil {
		r.Rows = append(r.Rows, Meaning{What: "filter", Label: "show events: " + shown(q), Filter: q})
	}
	if strings.ContainsAny(q, "/.*") && !strings.HasPrefix(q, "0x") {
		r.Rows = append(r.Rows, Meaning{What: "filter", Label: "show calls that name the file " + shown(q), Filter: "path=" + q})
	}
}
