//go:build linux

// This file reads what the kernel says about memory: of the system, of the program's
// cgroup and of each traced process.

package record

import (
	"errors"
	"math"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"memtrace/format"
	"memtrace/format/proctext"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// sampler reads the texts of /proc and /sys that are sampled. Files are opened once;
// one that this kernel has not is not asked for again.
type sampler struct {
	system []source
	procs  map[*tracee.Process]*procTexts
	rec    format.MemInfo
	text   []byte
	at     []int         // where each sample's text ends in text
	last   uint64        // when the last sample of all was taken
	took   time.Duration // and how long it took
	cost   atomic.Int64  // ns: the faster one of the last two
	refs   referencing
}

// source is a text and what of it is kept: lines with these prefixes, or all.
type source struct {
	name  string
	pid   int
	file  *procfs.Text
	lines []string
}

// Which lines matter: the rest would only make the log bigger.
var (
	vmstatLines = []string{
		"pgfault ", "pgmajfault ", "pgsteal_", "pgscan_", "allocstall_", "pswpin ", "pswpout ", "oom_kill ",
		"workingset_refault_", "pgfree ", "compact_stall ", "thp_fault_alloc ", "thp_split_page ",
	}
	statusLines = []string{"Name:", "State:", "Tgid:", "PPid:", "Vm", "Rss", "HugetlbPages:", "Threads:", "voluntary", "nonvoluntary"}
	smapsLines  = []string{"Rss:", "Anonymous:", "Referenced:", "LazyFree:", "Swap:"}
)

// Which mappings are sampled one by one, and how often: the series of a mapping tells which one
// a program fills, not how its use went up and down.
const (
	largeMapping = 1 << 20 // bytes of anonymous memory
	smapsGap     = 500 * time.Millisecond
	smapsShare   = 16 // the gap is at least this part of a process's age
)

// textLimit is how long a text may be. That is smaps of some 5,000 mappings; those of a process
// with more are not asked for again.
const textLimit = 4 << 20

// procTexts are the files of one process. The rollup belongs to an address
// space: an exec needs it opened again.
type procTexts struct {
	space   *tracee.Space
	via     *tracee.Thread // whose files they are: those of a thread that has ended say nothing
	sources []source
	// smaps_rollup and smaps are not read again before these times.
	rollup, smaps uint64
	since         uint64 // when they were opened
	mapped        bool   // smaps was read
	rss           uint64 // bytes, in the last sample
	refs          referenced
}

// pageShare is how much of the time the reading of smaps_rollup may take, and of smaps:
// the kernel goes over all pages of the process for them.
const pageShare = 50

// open opens the files of the system, and those of the cgroup that one of some
// processes is in.
func (s *sampler) open(pids []int) {
	s.procs = map[*tracee.Process]*procTexts{}
	add := func(name, path string, pid int, lines []string) {
		if f, err := procfs.OpenText(path); err == nil {
			s.system = append(s.system, source{name: name, pid: pid, file: f, lines: lines})
		}
	}
	add("meminfo", "/proc/meminfo", 0, nil)
	add("vmstat", "/proc/vmstat", 0, vmstatLines)
	add("pressure", "/proc/pressure/memory", 0, nil)
	if len(pids) == 0 {
		return
	}
	text, err := procfs.ReadText("/proc/" + strconv.Itoa(pids[0]) + "/cgroup")
	if err != nil {
		return
	}
	c, ok := procfs.ParseCgroup(text)
	if !ok {
		return
	}
	root, current, events, limit := "/sys/fs/cgroup", "memory.current", "memory.events", "memory.max"
	if !c.Unified {
		root, current, events, limit = root+"/memory", "memory.usage_in_bytes", "memory.oom_control", "memory.limit_in_bytes"
	}
	add("cgroup.current", filepath.Join(root, c.Path, current), pids[0], nil)
	add("cgroup.events", filepath.Join(root, c.Path, events), pids[0], nil)
	add("cgroup.max", filepath.Join(root, c.Path, limit), pids[0], nil)
}

// close closes all files.
func (s *sampler) close() {
	for _, x := range s.system {
		x.file.Close()
	}
	for p := range s.procs {
		s.forget(p)
	}
}

// forget closes the files of a process.
func (s *sampler) forget(p *tracee.Process) {
	x := s.procs[p]
	if x == nil {
		return
	}
	for _, f := range x.sources {
		f.file.Close()
	}
	delete(s.procs, p)
}

// begin begins a sample, with the texts of the system.
func (s *sampler) begin() {
	s.text, s.at = s.text[:0], s.at[:0]
	s.rec.Samples = s.rec.Samples[:0]
	for i := range s.system {
		_ = s.take(&s.system[i])
	}
}

// process adds the texts of one process. Its last ones are read through the thread t, where
// the leader may have ended already.
func (s *sampler) process(p *tracee.Process, t *tracee.Thread, now uint64) {
	last := t != nil
	for _, o := range p.Threads {
		if !o.Over() && (t == nil || o.TID == p.PID) {
			t = o
		}
	}
	if t == nil {
		return
	}
	x := s.procs[p]
	if x == nil || last || x.space != t.Space || x.via.Over() {
		again := openTexts(t, now)
		if last && x != nil && x.mapped {
			again.smaps = now
		}
		if again.refs = (referenced{began: now, clear: s.refs.next(now, now)}); x != nil && x.space == t.Space {
			again.refs = x.refs
		}
		s.forget(p)
		x, s.procs[p] = again, again
	}
	for i := range x.sources {
		begin := time.Now()
		took := func() uint64 { return pageShare * uint64(time.Since(begin)) }
		switch src := &x.sources[i]; src.name {
		case "smaps_rollup":
			if now >= x.rollup {
				_ = s.take(src)
				x.rollup = now + took()
			}
		case "smaps":
			if now >= x.smaps {
				if err := s.take(src); errors.Is(err, procfs.ErrLong) {
					x.mapped, x.smaps = false, math.MaxUint64
					continue
				}
				x.mapped = true
				x.smaps = now + max(uint64(smapsGap), (now-x.since)/smapsShare, took())
			}
		case "status":
			text := len(s.text)
			_ = s.take(src)
			x.rss, _ = proctext.Field(s.text[text:], "VmRSS").Size()
		default:
			_ = s.take(src)
		}
	}
	if s.refs.on && !last && (x.refs.read > 0 || !s.waitsFor(x.space)) {
		s.refs.look(&x.refs, x.via.TID, now, func(name string) bool { return s.mappings(x, name) })
	}
}

// mappings takes what smaps says of the large mappings of a process, under another name. It
// reports whether there are any.
func (s *sampler) mappings(x *procTexts, name string) bool {
	for _, src := range x.sources {
		if src.name == "smaps" {
			src.name = name
			before := len(s.at)
			return s.take(&src) == nil && len(s.at) > before
		}
	}
	return false
}

// waitsFor reports whether the bits of an address space have been reset and not been read: two
// processes may share it.
func (s *sampler) waitsFor(space *tracee.Space) bool {
	for _, x := range s.procs {
		if x.space == space && x.refs.read > 0 {
			return true
		}
	}
	return false
}

// nextRead is when the bits of a process are to be read next, 0 if none have been reset.
func (s *sampler) nextRead() (due uint64) {
	for _, x := range s.procs {
		if r := x.refs.read; r > 0 && (due == 0 || r < due) {
			due = r
		}
	}
	return due
}

// forked has smaps_rollup read with the next sample of a process that has forked: what it has in
// common with its child counts in both from now on.
func (s *sampler) forked(p *tracee.Process) {
	if x := s.procs[p]; x != nil {
		x.rollup = 0
	}
}

// gaveBackMuch reports whether so many bytes of mappings are much of what a process had in memory.
func (s *sampler) gaveBackMuch(p *tracee.Process, bytes uint64) bool {
	x := s.procs[p]
	return x != nil && x.rss > 0 && bytes >= x.rss/10
}

// openTexts opens the files of a process that one of its threads has.
func openTexts(t *tracee.Thread, now uint64) *procTexts {
	x := &procTexts{space: t.Space, via: t, since: now, smaps: now + uint64(smapsGap)}
	dir := "/proc/" + strconv.Itoa(t.TID) + "/"
	for _, f := range []source{{name: "status", lines: statusLines}, {name: "statm"}, {name: "smaps_rollup"}, {name: "smaps"}} {
		file, err := procfs.OpenText(dir + f.name)
		if err != nil {
			continue
		}
		f.file, f.pid = file, t.Proc.PID
		x.sources = append(x.sources, f)
	}
	return x
}

// take reads one text; one that says nothing is left out.
func (s *sampler) take(src *source) error {
	begin := len(s.text)
	text, err := src.file.Append(s.text, textLimit)
	if err != nil || len(text) == begin {
		return err
	}
	switch {
	case src.lines != nil:
		text = text[:begin+len(procfs.Lines(text[begin:], src.lines))]
	case src.name == "smaps", src.name == sourceCleared, src.name == sourceReferenced:
		text = text[:begin+len(procfs.LargeMappings(text[begin:], largeMapping, smapsLines))]
	}
	if s.text = text; len(text) == begin {
		return nil
	}
	s.at = append(s.at, len(text))
	s.rec.Samples = append(s.rec.Samples, format.Sample{Source: src.name, PID: uint32(src.pid)})
	return nil
}

func (s *sampler) record() *format.MemInfo {
	begin := 0
	for i, end := range s.at {
		s.rec.Samples[i].Data = s.text[begin:end:end]
		begin = end
	}
	return &s.rec
}
