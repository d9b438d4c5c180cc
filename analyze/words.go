package analyze

import (
	"fmt"
	"strings"
)

// This file puts verdicts into words.

// Verdict is what the series of a program come to.
type Verdict struct {
	Word string  `col:"verdict,VERDICT"` // leak, grows, none, short
	Kind string  `col:"kind,KIND"`       // of mappings, threads, descriptors, processes, page tables, address space or memory
	PID  *uint32 `col:"pid,PID"`         // nil: of several
	Who  string  `col:"program,PROGRAM"`
	// Rate is in bytes per second, nil of what is counted; Count per second is of that.
	Rate  *int64   `col:"rate_bytes_per_s,PER SECOND,bytes"`
	Count *float64 `col:"rate_per_s,COUNT PER SECOND,fine"`
	// From and To are what there was at the beginning and at the end of the time that was
	// judged, in bytes or a count; the times are ns since the start.
	From     *int64  `col:"from,FROM,bytes"`
	To       *int64  `col:"to,TO,bytes"`
	FromTime *uint64 `col:"from_time,SINCE,ns,fine"`
	ToTime   *uint64 `col:"to_time,UNTIL,ns,fine"`
	// Least is the slowest growth that would have been seen, in bytes per second.
	Least     *int64   `col:"least_rate_bytes_per_s,LEAST,bytes,fine"`
	Site      *string  `col:"site,SITE,fine"` // the call site that most of a leak comes from
	SiteShare *float64 `col:"site_share,SITE HAS,percent,fine"`
	// UsedAgain is how much of the memory of this kind that was there was used in a while.
	UsedAgain *float64 `col:"used_again_share,USED AGAIN,percent,fine"`
	Text      string   `col:"text,,fine"`

	short string // what a finding says: without the program's name
	freed bool   // what leaked was given back as the program ended
}

func rate(v float64) string {
	if v < 0 {
		return "-" + Size(uint64(-v)) + "/s"
	}
	return Size(uint64(v)) + "/s"
}

func bytesOf(v float64) string {
	if v < 0 {
		return "-" + Size(uint64(-v))
	}
	return Size(uint64(v))
}

func secs(v float64) string { return Span(uint64(max(v, 0) * 1e9)) }

// verdict puts what was found into words.
func (p *program) verdict(f found) *Verdict {
	j := f.j
	ns := func(t float64) *uint64 { n := uint64(max(t, 0) * 1e9); return &n }
	whole := func(v float64) *int64 { n := int64(v); return &n }
	v := &Verdict{
		Word: f.word, Kind: f.kind, PID: &p.pid, Who: p.who(), From: whole(j.begin), To: whole(j.end), FromTime: ns(p.window.from), ToTime: ns(p.window.to),
	}
	switch f.kind {
	case kindThreads, kindDescriptors:
		v.Count = &j.rate
	default:
		r := j.rate
		if f.word == wordNone {
			r = 0
		}
		v.Rate = whole(r)
		if f.word != wordShort {
			v.Least = whole(p.inUse.seen(sampledFloor))
		}
	}
	if f.word == wordShort {
		v.From, v.To, v.Rate = nil, nil, nil
	}
	v.short = p.says(f)
	v.Text = v.short
	if f.why == mapsMore {
		v.Text += fmt.Sprintf(" A cache that is still filling looks the same: this one had not stopped after %s.", secs(p.window.length()))
	}
	if a := p.usedAgain(f.kind); a.known() && (f.word == wordLeak || f.word == wordGrows) {
		share := 100 * a.share()
		v.UsedAgain = &share
		v.Text += " " + a.says(f.kind, p.collector)
	}
	if f.word == wordLeak || f.word == wordGrows {
		if v.freed = p.givenBack > 0; v.freed {
			v.Text += fmt.Sprintf(" %s were given back in the last %s, as it ended: the growth before is judged.", bytesOf(p.givenBack), secs(p.backFor))
		}
		if v.Least != nil {
			v.Text += fmt.Sprintf(" Growth below %s would not have been seen.", rate(float64(*v.Least)))
		}
	}
	return v
}

// name is a program and its process.
func (p *program) name() string { return fmt.Sprintf("%s (process %d)", p.who(), p.pid) }

// grew is how a series grew. The rate that lasts is that of the last half: start and end do not
// tell it.
func (p *program) grew(j *judgement) string {
	return fmt.Sprintf("grew from %s to %s between %s and %s, at last by %s,", bytesOf(j.begin), bytesOf(j.end), secs(p.window.from), secs(p.window.to), rate(j.rate))
}

// says is what was found in a sentence or two.
func (p *program) says(f found) string {
	j, d, w := f.j, &p.inUse, p.window
	between := fmt.Sprintf("from %s to %s", secs(w.from), secs(w.to))
	grew := p.grew(j)
	back := "was not given back"
	if p.givenBack > 0 {
		back = "was given back only as it ended"
	}
	switch f.why {
	case mapsMore:
		return fmt.Sprintf("LEAK in %s: memory in use %s and %s. %s", p.name(), grew, back, p.place(f.kind))
	case underSaw:
		if d.shape == cyclic {
			return fmt.Sprintf("LEAK in %s: memory comes and goes by %s, but %s %s and that %s.", p.name(),
				bytesOf(max(d.amplitude, d.high-d.low)), inKind(f.kind), grew, back)
		}
		return fmt.Sprintf("LEAK in %s: %s %s and %s.", p.name(), inKind(f.kind), grew, back)
	case mapsOnly:
		head := "LEAK in " + p.name()
		if f.word == wordGrows {
			head = p.name() + " GROWS, which may be no leak"
		}
		return fmt.Sprintf("%s: %s %s and there are too few samples (%d) to say how much of it is in use.", head, inKind(f.kind), grew, p.samples)
	case hasThreads:
		return fmt.Sprintf("LEAK of threads in %s: %.1f threads a second that did not end, %s (%.0f to %.0f), with %s of stacks.", p.name(), j.rate, between,
			j.begin, j.end, bytesOf(p.by[useStacks].end))
	case hasObjects:
		return fmt.Sprintf("LEAK of shared memory in %s: what it made of kind %s, mapped or not, %s and is still there.", p.name(), f.kind, grew)
	case hasShared:
		return fmt.Sprintf("LEAK of shared memory in %s: what it uses of kind %s %s and %s.", p.name(), f.kind, grew, back)
	case hasTables:
		return fmt.Sprintf("LEAK of page tables in %s: they %s and the memory that they map did not.", p.name(), grew)
	case hasSpace:
		return fmt.Sprintf("LEAK of address space in %s: it mapped %s %s (%s to %s) and touched %.0f %% of it.", p.name(), rate(j.rate), between, bytesOf(j.begin),
			bytesOf(j.end), 100*max(d.rise, 0)/max(j.rise, 1))
	case hasReserved:
		return fmt.Sprintf("LEAK of address space in %s: it reserved %s %s (%s to %s) that it cannot write to.", p.name(), rate(j.rate), between, bytesOf(j.begin), bytesOf(j.end))
	case hasDescriptors:
		return fmt.Sprintf("LEAK of descriptors in %s: %.1f a second are opened and not closed, %s (%.0f to %.0f).", p.name(), j.rate, between, j.begin, j.end)
	}
	return p.saysLess(f)
}

// saysLess is what is said of what is no leak, or may be none.
func (p *program) saysLess(f found) string {
	j, d, w := f.j, &p.inUse, p.window
	grew := p.grew(j)
	head := fmt.Sprintf("%s GROWS, which may be no leak:", p.name())
	switch f.why {
	case isSlowing:
		return fmt.Sprintf("%s memory in use (%s) grew by %s in the last half of what was judged, %.2f times as fast as in the first: a cache or the program's start looks so. "+
			"It is not flat yet: record %.0f times longer.", head, inKind(f.kind), rate(j.rate), j.pace, 3.0)
	case gaveBack:
		return fmt.Sprintf("%s it grew by %s from %s to %s (%s to %s), and gave most of it back before it ended.", head, rate(j.rate), secs(w.from), secs(w.to),
			bytesOf(j.begin), bytesOf(j.end))
	case counts:
		return fmt.Sprintf("%s the number of its %s went from %.0f to %.0f, and grew by %.1f a second in the last half of what was judged. Record longer.", head, f.kind, j.begin, j.end, j.rate)
	case isUsed:
		return fmt.Sprintf("%s memory in use (%s) %s and was not given back, but the program still uses it. A cache that is filling looks so, and so does a table that nothing is taken out of.",
			head, inKind(f.kind), strings.TrimSuffix(grew, ","))
	case collects:
		return fmt.Sprintf("%s %s heap grew by %s (%s), and garbage may be part of it: no full collection was seen. Record longer, or force a collection.", head,
			collectorNames[p.collector], bytesOf(j.rise), rate(j.rate))
	case fills:
		if m := p.fills; m != nil {
			text := fmt.Sprintf("%s it fills a mapping that it had made before, at %v: %s of %s are in use there, %s more than at first.", head, m.r.Start,
				Size(m.used), Size(m.r.Len()), bytesOf(m.rise))
			if left := float64(m.r.Len() - min(m.used, m.r.Len())); d.rate > 0 {
				text += fmt.Sprintf(" At this pace (%s) it is full in %s. It is no leak if it stops then.", rate(d.rate), secs(left/d.rate))
			}
			return text
		}
		mapped := max(0, p.by[useHeap].rise+p.by[useAnon].rise+p.stack.rise)
		return fmt.Sprintf("%s it fills memory that it had mapped before. %s more are in use (%s), of which %s were mapped meanwhile. It is no leak if it stops when that is full.",
			head, bytesOf(d.rise), rate(d.rate), bytesOf(mapped))
	case fewSteps:
		return fmt.Sprintf("%s memory in use grew by %s in few steps, and what it has mapped does not grow steadily. Record longer.", head, bytesOf(d.rise))
	case fillsShared:
		return fmt.Sprintf("%s it uses ever more (%s) of shared memory of kind %s that was mapped before. It is no leak if it stops when all is used.", head, rate(j.rate), f.kind)
	case isStalled:
		return fmt.Sprintf("No verdict on %s: the machine stood still for %s of %s, and in the rest nothing is seen to grow. Record on a machine that is less busy.", p.name(),
			secs(p.stalled), secs(p.stalled+p.end-p.begin))
	case isShort:
		return fmt.Sprintf("Too short for a verdict on %s: %s in %s. Let it run longer, or sample more often (record --meminfo=20ms).", p.name(),
			plural(uint64(p.samples), "sample", "samples"), secs(w.length()))
	}
	least := fmt.Sprintf(" A leak slower than %s would not have been seen.", rate(d.seen(sampledFloor)))
	switch d.shape {
	case cyclic:
		return fmt.Sprintf("No leak seen in %s: memory in use comes and goes, %d times by about %s; what is left between does not grow steadily.%s", p.name(), d.falls,
			bytesOf(d.amplitude), least)
	}
	return fmt.Sprintf("No leak seen in %s: memory in use stays between %s and %s from %s on, and was flat in the last %s.%s", p.name(), bytesOf(d.low), bytesOf(d.high),
		secs(w.from), secs(min(max(d.still, 0), w.length())), least)
}

// inKind is a kind of memory as it is said.
func inKind(kind string) string {
	switch kind {
	case "heap":
		return "[heap]"
	case kindMemory:
		return "of all kinds"
	}
	return kind + " memory"
}

// place says where memory that grew is.
func (p *program) place(kind string) string {
	var b strings.Builder
	u, by := useAnon, "mmap, mremap and mprotect took"
	switch kind {
	case "heap":
		u, by = useHeap, "brk took"
	case "main stack":
		return "It is in the main stack."
	}
	x := &p.by[u]
	fmt.Fprintf(&b, "It is in %s: %s %s", inKind(kind), by, bytesOf(x.rise))
	return b.String() + "."
}

// many judges the number of processes.
func (c *census) many() *Verdict {
	life := c.end - c.begin
	w := window{c.begin + startOf(life), c.end}
	if at, fell := c.processes.ending(c.end, endPart*life, 0); fell > 0 {
		w.to = at
	}
	j := judge(c.processes.series(), w, processFloor, 5)
	if j.shape != grow || j.steps < 5 {
		return nil
	}
	from, to := int64(j.begin), int64(j.end)
	v := &Verdict{Word: wordLeak, Kind: kindProcesses, Who: c.main.who(), Count: &j.rate, From: &from, To: &to}
	v.short = fmt.Sprintf("LEAK of processes: %.1f a second that did not end, from %s to %s (%d to %d).", j.rate, secs(w.from), secs(w.to), from, to)
	v.Text = v.short
	return v
}

// tooShort is one verdict for all programs that lived too shortly.
func (c *census) tooShort() *Verdict {
	switch c.brief {
	case 0:
		return nil
	case 1:
		l := c.first[0]
		return &Verdict{Word: wordShort, Kind: kindMemory, PID: &l.pid, Who: l.who(),
			Text: fmt.Sprintf("Too short for a verdict: %s (process %d) lived %s, and less than %s say nothing.", l.who(), l.pid, secs(l.end-l.begin), secs(leastLength))}
	}
	return &Verdict{Word: wordShort, Kind: kindMemory, Who: plural(uint64(c.brief), "program", "programs"),
		Text: fmt.Sprintf("Too short for a verdict: %d programs lived less than %s.", c.brief, secs(leastLength))}
}
