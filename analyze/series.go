package analyze

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/proctext"
	"memtrace/replay"
)

// usage is what one sample says of one process.
type usage struct {
	rss, anon, file, shmem, swap uint64
	virtual, data                uint64
	threads                      uint64
	stack, tables                uint64
	rollup                       bool     // smaps_rollup says what follows
	lazy                         uint64   // anonymous, and given back when memory is short (MADV_FREE)
	pages                        uint64   // anonymous, each page once though forks share it
	maps                         []mapUse // nil if they were not looked at
}

// own is the memory that no file gives back: resident or swapped out.
func (u *usage) own() uint64 { return u.anon + u.swap }

// inUse is own less what the program has said it does not need, if smaps_rollup was read: the
// sums of status may lag behind.
func (u *usage) inUse() (uint64, bool) {
	return u.own() - min(u.lazy, u.own()), u.rss > 0 || u.rollup
}

// sample is one MemInfo event.
type sample struct {
	step   format.Step
	time   uint64
	held   uint64            // how long the program was held by snapshots until then
	system map[string]uint64 // /proc/meminfo in bytes
	procs  map[image]usage
	last   bool // taken as a process was about to end: of that process alone
	// all has beside it what was last known of the others, of which each page that forks share
	// counts once.
	all map[image]usage
}

// point is a value at the sample: the time that the program ran, which stood
// still while a snapshot held it.
func (x *sample) point(v uint64) Point {
	return Point{seconds(x.time, x.held), float64(v), float64(x.step)}
}

// image is a process between two execs: a new program begins with memory of its
// own.
type image struct {
	pid   uint32
	birth int // pids are used again
}

// samples are the series of a log.
type samples struct {
	list    []sample
	name    map[image]string // what it runs
	cleared map[image]clearing
	again   map[image][]usedAgain
	// first and last texts of the system's sources.
	first, final map[string][]byte
}

// gather collects the samples of the options' range, and, for a census, what is known exactly.
func gather(ctx context.Context, t *replay.Trace, o Options, c *census) (*samples, error) {
	s := &samples{
		name: map[image]string{}, first: map[string][]byte{}, final: map[string][]byte{},
		cleared: map[image]clearing{}, again: map[image][]usedAgain{},
	}
	birth := map[uint32]image{}
	births, held := 0, uint64(0)
	all := together{last: map[image]usage{}, copies: map[image]uint64{}}
	now := uint64(0) // the time of the last event
	begin := func(pid, mm uint32, name string) {
		births++
		birth[pid] = image{pid, births}
		s.name[birth[pid]] = name
		if c != nil && (o.PID == 0 || o.PID == pid) {
			c.start(seconds(now, held), birth[pid], name, mm)
		}
	}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		stood := stoodStill(t, now, m.Event.Time)
		if now = m.Event.Time; stood > 0 {
			held += stood
			c.held(now, held)
			c.stood(seconds(now, held), stood)
		}
		if c != nil {
			c.see(m, seconds(now, held))
		}
		switch r := m.Event.Record.(type) {
		case *format.Exec:
			begin(m.Thread.TGID, m.Thread.MM, replay.CalledAs(r.Path, r.Called, r.Argv))
			c.found(m.State, m.Thread.TGID, m.Thread.MM)
		case *format.Attach:
			if r.Path != "" && birth[m.Thread.TGID] == (image{}) {
				begin(m.Thread.TGID, m.Thread.MM, r.Path)
				c.found(m.State, m.Thread.TGID, m.Thread.MM)
			}
		case *format.Clone:
			if x := m.State.Threads[r.Child]; x != nil && x.Proc == x.No {
				begin(x.TGID, x.MM, s.name[birth[m.Thread.TGID]])
				c.forked(m.Thread.TGID, x.TGID)
			}
		case *format.Snapshot:
			held += r.PauseNS
			c.held(now, held)
		case *format.MemInfo:
			one := sample{step: m.Event.Step, time: m.Event.Time, held: held, procs: map[image]usage{}, last: m.Event.Thread != 0}
			for _, x := range r.Samples {
				if x.Source == "meminfo" {
					one.system = sizes(x.Data)
				}
				if s.aboutSystem(&x) || o.PID != 0 && x.PID != o.PID {
					continue
				}
				im, known := birth[x.PID]
				if !known {
					begin(x.PID, spaceOf(m.State, x.PID), fmt.Sprintf("process %d", x.PID))
					im = birth[x.PID]
				}
				if name := nameIn(x.Data); !known && name != "" { // attached to: no exec was seen
					s.name[im] = name
				}
				if s.reference(im, &x, m, seconds(now, held)) {
					continue
				}
				u := one.procs[im]
				u.read(x.Source, x.Data)
				one.procs[im] = u
			}
			all.add(&one)
			s.list = append(s.list, one)
		}
	}
	if c != nil {
		c.close(seconds(now, held))
	}
	return s, nil
}

// aboutSystem keeps a text of the system's, and reports whether it is one.
func (s *samples) aboutSystem(x *format.Sample) bool {
	if x.PID != 0 && !strings.HasPrefix(x.Source, "cgroup.") {
		return false
	}
	if s.first[x.Source] == nil {
		s.first[x.Source] = slices.Clone(x.Data)
	}
	s.final[x.Source] = slices.Clone(x.Data)
	return true
}

// seconds is the time that a program ran: it stood still while a snapshot held it.
func seconds(time, held uint64) float64 { return float64(time-min(held, time)) / 1e9 }

// spaceOf is the address space of a process, 0 if it has none.
func spaceOf(s *format.State, pid uint32) uint32 {
	for _, t := range s.Threads {
		if t.TGID == pid {
			return t.MM
		}
	}
	return 0
}

// Without an interval of the user's choice a sample is taken at least each usualGap. The machine
// gave memtrace no time, and its programs none, if nothing at all happened for longStall.
const (
	usualGap  = 1_000_000_000 // ns
	longStall = 3 * usualGap
)

// stoodStill is for how long the machine stood still between two events that follow each other.
func stoodStill(t *replay.Trace, before, now uint64) uint64 {
	if now < before+longStall || !slices.Contains(t.Header().Options, "meminfo=auto") {
		return 0
	}
	return now - before - usualGap
}

// together is what was last known of the processes that live.
type together struct {
	last   map[image]usage
	copies map[image]uint64 // bytes that a process has in common with its forks, less its part of them
}

// add takes in a sample and gives it what all have.
func (a *together) add(x *sample) {
	if !x.last {
		clear(a.last)
	}
	for im, u := range x.procs {
		if u.rollup {
			a.copies[im] = u.anon - min(u.pages, u.anon)
		}
		twice := min(a.copies[im], u.anon)
		u.anon -= twice
		u.rss -= min(twice, u.rss)
		a.last[im] = u
	}
	if len(a.last) == 0 {
		return
	}
	x.all = maps.Clone(a.last)
	if x.last {
		for im := range x.procs {
			delete(a.last, im)
			delete(a.copies, im)
		}
	}
}

// nameIn is the program's name in a text of /proc/PID/status.
func nameIn(text []byte) string {
	return replay.Escape(proctext.Field(text, "Name").String())
}

// read takes what a text says. What smaps_rollup counts is exact: status is read first, and
// what both tell is the former's.
func (u *usage) read(source string, text []byte) {
	if source == "smaps" {
		u.maps = usesOf(text)
		return
	}
	m := sizes(text)
	switch source {
	case "status":
		u.rss, u.swap, u.virtual, u.data, u.threads = m["VmRSS"], m["VmSwap"], m["VmSize"], m["VmData"], m["Threads"]
		u.anon, u.file, u.shmem = m["RssAnon"], m["RssFile"], m["RssShmem"]
		u.stack, u.tables, u.pages = m["VmStk"], m["VmPTE"], u.anon
	case "smaps_rollup":
		n, ok := m["Anonymous"]
		if !ok {
			return
		}
		if u.rss == 0 {
			u.rss = m["Rss"]
			u.file = u.rss - min(n, u.rss)
		}
		u.rollup, u.anon, u.swap, u.lazy, u.pages = true, n, m["Swap"], m["LazyFree"], n
		if shared, ok := m["Pss_Anon"]; ok {
			u.pages = shared
		}
	}
}

// resident is resident memory in bytes: when it was sampled, and the most until then.
type resident struct{ now, most uint64 }

// residents is what a sample says of each process. What smaps_rollup counts is exact; the sums
// of status lag behind by up to a megabyte.
func residents(r *format.MemInfo) map[uint32]resident {
	of := map[uint32]resident{}
	for _, s := range r.Samples {
		if s.PID == 0 {
			continue
		}
		x := of[s.PID]
		switch s.Source {
		case "status":
			m := sizes(s.Data)
			x.now = m["VmRSS"]
			x.most = max(x.most, m["VmHWM"], x.now)
		case "smaps_rollup":
			if n := sizes(s.Data)["Rss"]; n > 0 {
				x.now, x.most = n, max(x.most, n)
			}
		default:
			continue
		}
		of[s.PID] = x
	}
	return of
}

// images are the programs that were sampled, those with the most samples first.
func (s *samples) images() []image {
	n := map[image]int{}
	for i := range s.list {
		for im := range s.list[i].procs {
			n[im]++
		}
	}
	ims := make([]image, 0, len(n))
	for im := range n {
		ims = append(ims, im)
	}
	slices.SortFunc(ims, func(a, b image) int { return cmp.Or(cmp.Compare(n[b], n[a]), cmp.Compare(a.birth, b.birth)) })
	return ims
}

// seriesOf is a series of one program. Where smaps_rollup was read with most samples, the others
// are left out: they come from sums that may lag behind.
func (s *samples) seriesOf(im image, get func(*usage) (uint64, bool)) series {
	all, exact := 0, 0
	for i := range s.list {
		if u, ok := s.list[i].procs[im]; ok {
			all++
			if u.rollup {
				exact++
			}
		}
	}
	var c series
	for i := range s.list {
		u, ok := s.list[i].procs[im]
		if !ok || !u.rollup && exact >= leastSamples && 5*exact >= 4*all {
			continue
		}
		if v, ok := get(&u); ok {
			c = append(c, s.list[i].point(v))
		}
	}
	return c
}

// sum is the series of all programs together.
func (s *samples) sum(get func(*usage) uint64) series {
	var c series
	for i := range s.list {
		x := &s.list[i]
		n := uint64(0)
		for _, u := range x.all {
			n += get(&u)
		}
		c = append(c, x.point(n))
	}
	return c
}

// ofSystem is the series of a line of /proc/meminfo.
func (s *samples) ofSystem(key string) series {
	var ps series
	for i := range s.list {
		if n, ok := s.list[i].system[key]; ok {
			ps = append(ps, s.list[i].point(n))
		}
	}
	return ps
}

// parseCounters reads "key value" lines.
func parseCounters(text []byte) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			m[f[0]] = n
		}
	}
	return m
}

// noSamples is what a report says of a log that has none.
const noSamples = "no samples in this log: record with --meminfo"
