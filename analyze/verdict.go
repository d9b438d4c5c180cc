package analyze

import (
	"cmp"
	"math"
	"path"
	"slices"
)

// This file says what the series of a program come to, by the rules of docs/verdicts.md.

// The words of a verdict.
const (
	wordLeak  = "leak"  // used memory grew to the very end, and what was mapped meanwhile explains it
	wordGrows = "grows" // it grew, and that is all that can be said
	wordNone  = "none"
	wordShort = "short" // too short a run, or too few samples
)

// What verdicts are about, beside the kinds of mappings.
const (
	kindThreads     = "threads"
	kindDescriptors = "descriptors"
	kindProcesses   = "processes"
	kindPageTables  = "page tables"
	kindSpace       = "address space"
	kindMemory      = "memory"
)

// Floors: a smaller rise is none. Idle programs do not move by one page after their start;
// what is mapped moves in steps, of which glibc's brk takes 132 KiB.
const (
	sampledFloor    = 96 << 10
	exactFloor      = 256 << 10
	reservedFloor   = 256 << 20
	threadFloor     = 8
	descriptorFloor = 16
	processFloor    = 4
)

// Least numbers of steps of growth that is called steady.
const (
	sampledSteps = 6
	exactSteps   = 4
)

// Bounds of what a collector lets come together before it gives back, and of the rules.
const (
	goRise       = 6 << 20
	v8Rise       = 128 << 20
	evenSteps    = 24  // garbage comes in lumps
	heapFactor   = 1.2 // a collector that has not run lets a heap double
	latelyShare  = 0.6 // of its pace, in the last eighth: a heap with a full cache in it grows until the next collection
	explained    = 0.4 // of a rise in use must have been mapped meanwhile
	untouched    = 20  // times as much mapped as used is address space
	spaceRise    = 64 << 20
	restlessRise = 512 << 10
	stallPart    = 0.25 // of a life is too long to stand still, for saying that nothing grows
	tableShare   = 32   // page tables of 4 KiB map 2 MiB; of sparse memory they are more than this part
)

// program is a program with its judged series.
type program struct {
	*lived
	window  window
	samples int
	// Sampled.
	inUse, sharedUse, stack, tables judgement
	// Exact.
	by                           [numUses]judgement
	committed                    judgement
	threadCount, fdCount, object judgement
	givenBack                    float64   // by what came before its end, less than a tenth of its life
	backFor                      float64   // seconds that it took
	stalled                      float64   // seconds for which the machine stood still, which are not in its life
	sampled                      [4]series // sampled: in use, shared, stack, page tables
	fills                        *filling  // where most of what is in use came to be, if that is known
	again                        [numUses]again
}

// windowOf is the part of a program's life that is judged: its start is left out, and what it
// gives back just before it ends, of which givenBack says how much and took how long.
func (l *lived) windowOf() (w window, givenBack, took float64) {
	life := l.end - l.begin
	part := endPart
	if l.collector == v8Collector {
		part = 4 * endPart // Node takes its heap apart when it ends
	}
	w = window{l.begin + startOf(life), l.end}
	c := &l.extent.committed
	at, fell := c.ending(l.end, part*life, 64<<10)
	if fell == 0 {
		if at, fell = c.ending(l.end, slowEnd*life, 64<<10); fell < c.high(l.end)/2 {
			return w, 0, 0
		}
	}
	w.to = at
	return w, fell, l.end - at
}

// high is the most that there was until a time.
func (s *stepped) high(end float64) (most float64) {
	for _, p := range s.c {
		if p.T <= end {
			most = max(most, p.V)
		}
	}
	return most
}

// startOf is how much of a life is its start.
func startOf(life float64) float64 { return min(max(0.1*life, 0.5), 0.3*life) }

// endPart of a life is its end, if more than that part of its memory is given back there.
// If it takes up to slowEnd, and more than half goes, nobody knows whether it would have gone
// anyway.
const (
	endPart = 0.1
	slowEnd = 0.35
)

// ending is where the way down before an end begins, which takes at most long seconds and has no
// way up of more than rise; fell is 0 if there is none.
func (s *stepped) ending(end, long, rise float64) (at, fell float64) {
	c := s.c
	for len(c) > 0 && c[len(c)-1].T > end {
		c = c[:len(c)-1]
	}
	if len(c) == 0 {
		return end, 0
	}
	_, peak := c.bounds()
	last := c[len(c)-1].V
	top := len(c) - 1
	for i := top; i >= 0 && c[i].V >= last; i-- {
		if c[i].V > c[top].V {
			top = i
		}
		if i > 0 && c[i].V-c[i-1].V > rise || c[i].T < end-long {
			break
		}
	}
	if fell = c[top].V - last; fell <= endPart*peak || c[top+1].T <= end-long {
		return end, 0
	}
	if top > 0 && c[top-1].V > c[top].V && c[top+1].T-c[top].T < long/4 {
		return end, 0 // it had begun before
	}
	return math.Nextafter(c[top+1].T, 0), fell
}

// judged judges all series of a program.
func (s *samples) judged(l *lived) *program {
	p := &program{lived: l}
	p.window, p.givenBack, p.backFor = l.windowOf()
	w := p.window
	p.sampled = [...]series{
		s.seriesOf(l.image, (*usage).inUse),
		s.seriesOf(l.image, func(u *usage) (uint64, bool) { return u.shmem, u.rss > 0 }),
		s.seriesOf(l.image, func(u *usage) (uint64, bool) { return u.stack, u.stack > 0 }),
		s.seriesOf(l.image, func(u *usage) (uint64, bool) { return u.tables, u.tables > 0 }),
	}
	last := w.from
	for _, x := range p.sampled[0] {
		if x.T >= w.from && x.T <= w.to {
			p.samples++
			last = x.T
		}
	}
	sampled := w
	if p.givenBack > 0 {
		sampled.to = last // what comes next has seen it given back
	}
	for i, j := range []*judgement{&p.inUse, &p.sharedUse, &p.stack, &p.tables} {
		if *j = (judgement{window: w}); p.samples >= leastSamples {
			*j = judge(p.sampled[i], sampled, sampledFloor, sampledSteps)
		}
	}
	exact := func(c *stepped, floor, least float64) judgement {
		w := w
		if at, fell := c.ending(w.to, endPart*(l.end-l.begin), floor/4); fell > 0 {
			w.to = at
		}
		return judge(c.series(), w, floor, least)
	}
	for u := range p.by {
		floor := float64(exactFloor)
		if use(u) == useReserved {
			floor = reservedFloor
		}
		p.by[u] = exact(&l.extent.by[u], floor, exactSteps)
	}
	p.committed = exact(&l.extent.committed, exactFloor, exactSteps)
	p.object = exact(&l.objects, exactFloor, exactSteps)
	p.threadCount = exact(&l.threads, threadFloor, exactSteps)
	p.fdCount = exact(&l.descriptors, descriptorFloor, sampledSteps)
	d := &p.inUse
	if fill, ok := s.filled(l.image, w, d.rise); ok {
		p.fills = &fill
	}
	p.again = s.usedAgain(l.image, w)
	// Samples hit a saw-tooth anywhere.
	if p.committed.falls >= 3 && p.committed.amplitude > d.rise/2 && d.shape > cyclic {
		d.shape = cyclic
	}
	if d.started && p.collector != noCollector {
		d.shape = flat // heaps of collectors creep for long
	}
	return p
}

// found is something that a program's series come to.
type found struct {
	word, kind string
	why        reason
	j          *judgement
}

// reason is which rule has spoken.
type reason uint8

const (
	isFlat reason = iota
	isShort
	isStalled  // the machine stood still for too long to say that nothing grows
	mapsMore   // in use, and mapped meanwhile
	mapsOnly   // mapped, and what is in use is not known
	underSaw   // mapped ever more below what comes and goes
	hasThreads // that do not end
	hasObjects // shared memory that nobody has mapped
	hasShared
	hasTables
	hasSpace    // mapped and hardly touched
	hasReserved // mapped without access
	isSlowing
	gaveBack // all of it, before it ended
	counts   // threads or descriptors, ever more slowly
	collects // a collector may give it back
	isUsed   // a leak is not used again
	fills    // what it had mapped before
	fewSteps
	fillsShared
	hasDescriptors
	hasProcesses
)

// findings are what the series of a program come to, worst first: at least one.
func (p *program) found() []found {
	d := &p.inUse
	if p.window.length() < leastLength {
		return []found{{wordShort, kindMemory, isShort, d}}
	}
	var list []found
	add := func(f found) { list = append(list, f) }
	threads := p.threadCount.shape == grow && (p.by[useStacks].shape >= slowing || p.by[useAnon].shape >= slowing)
	if threads {
		add(found{wordLeak, kindThreads, hasThreads, &p.threadCount})
	}
	switch {
	case threads: // they explain what grows
	case p.threadCount.shape >= slowing:
		add(found{wordGrows, kindThreads, counts, &p.threadCount})
	case d.shape == grow:
		add(p.growing())
	default:
		if f, ok := p.mapping(); ok {
			add(f)
		} else if d.shape == slowing {
			add(found{wordGrows, p.where(), isSlowing, d})
		}
	}
	list = append(list, p.shared()...)
	switch p.fdCount.shape {
	case grow:
		add(found{wordLeak, kindDescriptors, hasDescriptors, &p.fdCount})
	case slowing:
		add(found{wordGrows, kindDescriptors, counts, &p.fdCount})
	}
	t := &p.tables
	if len(list) == 0 && t.shape == grow && t.rise > (max(d.rise, 0)+max(p.sharedUse.rise, 0))/tableShare {
		add(found{wordLeak, kindPageTables, hasTables, t})
	}
	switch {
	case len(list) > 0:
	case d.shape == tooShort:
		return []found{{wordShort, kindMemory, isShort, d}}
	case p.stalled > stallPart*(p.end-p.begin):
		return []found{{wordShort, kindMemory, isStalled, d}}
	default:
		return []found{{wordNone, kindMemory, isFlat, d}}
	}
	if p.backFor > endPart*(p.end-p.begin) && p.collector != v8Collector {
		for i := range list {
			if f := &list[i]; f.word == wordLeak && f.why != hasThreads && f.why != hasDescriptors {
				f.word, f.why = wordGrows, gaveBack
			}
		}
	}
	slices.SortStableFunc(list, func(a, b found) int { return cmp.Compare(a.weight(), b.weight()) })
	return list
}

// weight orders what was found: the worst first.
func (f *found) weight() int {
	switch {
	case f.word == wordLeak && f.kind == kindDescriptors:
		return 1
	case f.word == wordLeak:
		return 0
	case f.word == wordGrows:
		return 2
	case f.word == wordNone:
		return 3
	}
	return 4
}

// growing judges a program whose memory in use grew to the end.
func (p *program) growing() found {
	d := &p.inUse
	anon, mapped := &p.by[useAnon], p.by[useHeap].rise+p.by[useAnon].rise+p.stack.rise
	least := map[collector]float64{goCollector: max(goRise, heapFactor*d.begin), v8Collector: max(v8Rise, heapFactor*d.begin)}[p.collector]
	garbage := d.rise < least || d.lately < latelyShare || d.steps < evenSteps
	steady := false
	for _, u := range []use{useHeap, useAnon, useStacks} {
		steady = steady || p.by[u].shape == grow
	}
	switch {
	case p.collector == noCollector && anon.rise >= spaceRise && mapped > untouched*d.rise:
		return found{wordLeak, kindSpace, hasSpace, anon}
	case p.collector == jvmCollector, p.collector != noCollector && garbage:
		return found{wordGrows, p.where(), collects, d}
	case p.collector != goCollector && mapped < explained*d.rise:
		return found{wordGrows, kindMemory, fills, d}
	case !steady && d.steps < 12:
		return found{wordGrows, p.where(), fewSteps, d}
	}
	if a := p.usedAgain(p.where()); a.telling(d.rise) && p.collector == noCollector {
		return found{wordGrows, p.where(), isUsed, d}
	}
	return found{wordLeak, p.where(), mapsMore, d}
}

// mapping judges a program by what it maps, where the samples do not say that what is in use
// grows: they hit anywhere between the teeth of a saw.
func (p *program) mapping() (found, bool) {
	d := &p.inUse
	for _, u := range []use{useHeap, useAnon} {
		x := &p.by[u]
		if x.shape < slowing || x.steps < sampledSteps || x.rise < restlessRise {
			continue
		}
		restless := max(d.amplitude, 4*d.noise) > x.rise/2 && d.shape == cyclic
		switch {
		case d.shape == tooShort: // what it maps is all that is known
			if x.shape == grow && p.collector == noCollector && u == useHeap {
				return found{wordLeak, u.kind(), mapsOnly, x}, true
			}
			return found{wordGrows, u.kind(), mapsOnly, x}, true
		case x.shape == slowing:
			if restless {
				return found{wordGrows, u.kind(), isSlowing, x}, true
			}
		case p.collector != noCollector:
			if restless || d.shape == slowing {
				return found{wordGrows, u.kind(), collects, x}, true
			}
		case restless, d.shape == slowing:
			return found{wordLeak, u.kind(), underSaw, x}, true
		case x.rise >= spaceRise:
			return found{wordLeak, kindSpace, hasSpace, x}, true
		}
	}
	if x := &p.by[useReserved]; x.shape == grow && x.steps >= sampledSteps && x.rise >= reservedFloor && p.collector == noCollector {
		return found{wordLeak, kindSpace, hasReserved, x}, true
	}
	return found{}, false
}

// shared judges memory that others may have too.
func (p *program) shared() (list []found) {
	s := &p.sharedUse
	switch {
	case s.shape == grow && p.by[useShared].rise >= explained*s.rise:
		list = append(list, found{wordLeak, p.sharedKind(), hasShared, s})
	case s.shape == grow:
		list = append(list, found{wordGrows, p.sharedKind(), fillsShared, s})
	case s.shape == slowing:
		list = append(list, found{wordGrows, p.sharedKind(), isSlowing, s})
	}
	if o := &p.object; o.shape == grow && o.steps >= sampledSteps {
		list = append(list, found{wordLeak, p.lived.objectKind, hasObjects, o})
	} else if o.shape >= slowing {
		list = append(list, found{wordGrows, p.lived.objectKind, isSlowing, o})
	}
	return list
}

// where is the kind of mapping whose memory grew most, never that of stacks of threads that do
// not multiply.
func (p *program) where() string {
	best, most := kindMemory, 0.0
	for _, u := range []use{useHeap, useAnon} {
		if r := p.by[u].rise; r > most {
			best, most = u.kind(), r
		}
	}
	if p.stack.rise > most {
		return "main stack"
	}
	return best
}

// sharedKind is the kind of shared memory that is mapped most.
func (p *program) sharedKind() string {
	best, most := "anonymous shared", 0.0
	for k, n := range p.extent.shared {
		if n > most || n == most && n > 0 && k.String() < best {
			best, most = k.String(), n
		}
	}
	return best
}

// kind is what a use is called.
func (u use) kind() string {
	return [numUses]string{"heap", "anonymous private", "reserved", "thread stack", "shared"}[u]
}

// worst orders programs: those with the worst verdict first, then the fastest.
func worst(a, b *Verdict) int {
	rank := func(v *Verdict) int {
		return slices.Index([]string{wordLeak, wordGrows, wordNone, wordShort}, v.Word)
	}
	counts := func(v *Verdict) int {
		if v.Rate == nil {
			return 1
		}
		return 0
	}
	speed := func(v *Verdict) int64 {
		if v.Rate == nil {
			return 0
		}
		return *v.Rate
	}
	size := func(v *Verdict) int64 {
		if v.To == nil {
			return 0
		}
		return *v.To
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(counts(a), counts(b)), cmp.Compare(speed(b), speed(a)), cmp.Compare(size(b), size(a)))
}

// who names a program.
func (l *lived) who() string { return path.Base(l.name) }
