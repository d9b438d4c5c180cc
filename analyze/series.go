package analyze

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/replay"
)

// Point is a value at a time.
type Point struct {
	T    float64 // seconds since the start of the recording
	V    float64
	step float64
	acts float64 // calls that change no mapping, until then: what the program did meanwhile
}

// usage is what one sample says of one process.
type usage struct {
	rss, anon, file, shmem, swap uint64
	virtual, data                uint64
	threads                      uint64
	kinds                        [vma.NumKinds]uint64 // writable private bytes mapped
}

// own is the memory that no file gives back: resident or swapped out.
func (u *usage) own() uint64 { return u.anon + u.swap }

// sample is one MemInfo event.
type sample struct {
	step   format.Step
	time   uint64
	acts   uint64
	held   uint64            // how long the program was held by snapshots until then
	system map[string]uint64 // /proc/meminfo in bytes
	procs  map[image]usage
	last   bool // taken as a process was about to end: of that process alone
}

// point is a value at the sample: the time that the program ran, which stood
// still while a snapshot held it.
func (x *sample) point(v uint64) Point {
	return Point{float64(x.time-min(x.held, x.time)) / 1e9, float64(v), float64(x.step), float64(x.acts)}
}

// image is a process between two execs: a new program begins with memory of its
// own.
type image struct {
	pid   uint32
	birth int // pids are used again
}

// samples are the series of a log.
type samples struct {
	list []sample
	name map[image]string // what it runs
	// first and last texts of the system's sources.
	first, final map[string][]byte
}

// gather collects the samples of the options' range. kinds asks for what was
// mapped too.
func gather(ctx context.Context, t *replay.Trace, o Options) (*samples, error) {
	s := &samples{name: map[image]string{}, first: map[string][]byte{}, final: map[string][]byte{}}
	birth := map[uint32]image{}
	births, held, acts := 0, uint64(0), uint64(0)
	begin := func(pid uint32, name string) {
		births++
		birth[pid] = image{pid, births}
		s.name[birth[pid]] = name
	}
	for m, err := range walk(ctx, t, o) {
		if err != nil {
			return nil, err
		}
		switch r := m.Event.Record.(type) {
		case *format.Exec:
			begin(m.Thread.TGID, r.Path)
		case *format.Attach:
			if r.Path != "" && birth[m.Thread.TGID] == (image{}) {
				begin(m.Thread.TGID, r.Path)
			}
		case *format.Clone:
			if c := m.State.Threads[r.Child]; c != nil && c.Proc == c.No {
				begin(c.TGID, s.name[birth[m.Thread.TGID]])
			}
		case *format.Syscall:
			if row, ok := r.Arch.Syscall(r.Nr); ok && row.Flags&arch.ChangesMM == 0 {
				acts++
			}
		case *format.Snapshot:
			held += r.PauseNS
		case *format.MemInfo:
			one := sample{step: m.Event.Step, time: m.Event.Time, held: held, acts: acts, procs: map[image]usage{}, last: m.Event.Thread != 0}
			for _, x := range r.Samples {
				if x.PID == 0 || strings.HasPrefix(x.Source, "cgroup.") {
					if s.first[x.Source] == nil {
						s.first[x.Source] = slices.Clone(x.Data)
					}
					s.final[x.Source] = slices.Clone(x.Data)
				}
				if x.Source == "meminfo" {
					one.system = parseMeminfo(x.Data)
				}
				if x.PID == 0 || strings.HasPrefix(x.Source, "cgroup.") || o.PID != 0 && x.PID != o.PID {
					continue
				}
				im, known := birth[x.PID]
				if !known {
					begin(x.PID, fmt.Sprintf("process %d", x.PID))
					im = birth[x.PID]
				}
				if name := nameIn(x.Data); !known && name != "" { // attached to: no exec was seen
					s.name[im] = name
				}
				u, has := one.procs[im]
				u.read(x.Source, x.Data)
				if !has {
					u.mapped(m.State, x.PID)
				}
				one.procs[im] = u
			}
			s.list = append(s.list, one)
		}
	}
	return s, nil
}

// nameIn is the program's name in a text of /proc/PID/status.
func nameIn(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	name, ok := strings.CutPrefix(line, "Name:")
	if !ok {
		return ""
	}
	return replay.Escape(strings.TrimSpace(name))
}

// read takes what a text says. status is cheap and smaps_rollup exact: where
// both are there the latter counts.
func (u *usage) read(source string, text []byte) {
	switch source {
	case "status":
		m := parseMeminfo(text)
		u.rss, u.swap, u.virtual, u.data, u.threads = m["VmRSS"], m["VmSwap"], m["VmSize"], m["VmData"], m["Threads"]
		u.anon, u.file, u.shmem = m["RssAnon"], m["RssFile"], m["RssShmem"]
	case "smaps_rollup":
		m := parseMeminfo(text)
		if n, ok := m["Anonymous"]; ok && u.rss == 0 {
			u.rss, u.anon, u.swap = m["Rss"], n, m["Swap"]
			u.file = u.rss - min(u.anon, u.rss)
		}
	}
}

// mapped sums up what the process has mapped that only it can fill.
func (u *usage) mapped(s *format.State, pid uint32) {
	for _, t := range s.Threads {
		if t.TGID != pid || s.MMs[t.MM] == nil {
			continue
		}
		for v := range s.MMs[t.MM].VMAs.All() {
			if p := v.Prot.String(); len(p) == 4 && p[1] == 'w' && p[3] == 'p' && v.Kind < vma.NumKinds {
				u.kinds[v.Kind] += v.Len()
			}
		}
		return
	}
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

// of is the series of one program.
func (s *samples) of(im image, get func(*usage) uint64) []Point {
	var ps []Point
	for i := range s.list {
		if u, ok := s.list[i].procs[im]; ok {
			ps = append(ps, s.list[i].point(get(&u)))
		}
	}
	return ps
}

// sum is the series of all programs together, at the samples that have all.
func (s *samples) sum(get func(*usage) uint64) []Point {
	var ps []Point
	alone := len(s.images()) <= 1
	for i := range s.list {
		if x := &s.list[i]; alone || !x.last {
			n := uint64(0)
			for _, u := range x.procs {
				n += get(&u)
			}
			ps = append(ps, x.point(n))
		}
	}
	return ps
}

// ofSystem is the series of a line of /proc/meminfo.
func (s *samples) ofSystem(key string) []Point {
	var ps []Point
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
