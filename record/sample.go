//go:build linux

package record

import (
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"memtrace/format"
	"memtrace/record/procfs"
)

// sampler reads at intervals what the kernel says about memory: of the system,
// of the program's cgroup and of each traced process. Files are opened once; one
// that this kernel has not is not asked for again.
type sampler struct {
	system []source
	rec    format.MemInfo
	text   []byte
	at     []int         // where each sample's text ends in text
	took   time.Duration // the last sample of all
	cost   atomic.Int64  // ns: the faster one of the last two
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
)

// procTexts are the files of one process. The rollup belongs to an address
// space: an exec needs it opened again.
type procTexts struct {
	mm      *space
	via     *thread // whose files they are: those of a thread that has ended say nothing
	sources []source
	next    uint64 // smaps_rollup is not read again before this time
}

// rollupShare is how much of the time the reading of smaps_rollup may take: the
// kernel goes over all pages of the process for it.
const rollupShare = 50

func (s *sampler) open(r *Recorder) {
	add := func(name, path string, pid int, lines []string) {
		if f, err := procfs.OpenText(path); err == nil {
			s.system = append(s.system, source{name, pid, f, lines})
		}
	}
	add("meminfo", "/proc/meminfo", 0, nil)
	add("vmstat", "/proc/vmstat", 0, vmstatLines)
	add("pressure", "/proc/pressure/memory", 0, nil)
	for pid := range r.processes() {
		if r.main != 0 && pid != r.main {
			continue
		}
		if text, err := procfs.ReadText("/proc/" + strconv.Itoa(pid) + "/cgroup"); err == nil {
			if c, ok := procfs.ParseCgroup(text); ok {
				current, events, limit := "memory.current", "memory.events", "memory.max"
				root := "/sys/fs/cgroup"
				if !c.Unified {
					root += "/memory"
					current, events, limit = "memory.usage_in_bytes", "memory.oom_control", "memory.limit_in_bytes"
				}
				add("cgroup.current", filepath.Join(root, c.Path, current), pid, nil)
				add("cgroup.events", filepath.Join(root, c.Path, events), pid, nil)
				add("cgroup.max", filepath.Join(root, c.Path, limit), pid, nil)
			}
		}
		break
	}
}

// processes are the traced processes, by pid.
func (r *Recorder) processes() map[int]*process {
	ps := map[int]*process{}
	for _, t := range r.threads {
		ps[t.proc.pid] = t.proc
	}
	return ps
}

// startSampling takes the first sample and begins the series.
func (r *Recorder) startSampling() (stop func()) {
	if !r.opts.MemInfo {
		return func() {}
	}
	s := &r.sampler
	s.open(r)
	r.sampleAll()
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case <-time.After(r.sampleGap()):
				taken := make(chan struct{})
				r.Ask(func() { r.sampleAll(); close(taken) })
				select {
				case <-taken:
				case <-quit:
					return
				}
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		for _, x := range s.system {
			x.file.Close()
		}
		for _, p := range r.processes() {
			p.closeTexts()
		}
	}
}

// Without an interval of the user's choice, samples begin close together, so
// that a program of a second has a series too, and end defaultGap apart.
const (
	// A program that is done at once has the first and the last sample only: two
	// logs of it have the same steps.
	quiet      = 100 * time.Millisecond
	firstGap   = 50 * time.Millisecond
	defaultGap = time.Second
	gapShare   = 16
	// With many processes the samples are further apart: they take at most this
	// part of the time, and with very many ten times that.
	costShare = 50
)

func (r *Recorder) sampleGap() time.Duration {
	if d := r.opts.MemInfoInterval; d > 0 {
		return d
	}
	since := time.Since(r.start)
	if since < quiet {
		return quiet - since
	}
	gap := min(max(since/gapShare, firstGap), defaultGap)
	cost := time.Duration(r.sampler.cost.Load())
	return max(gap, min(costShare*cost, defaultGap), costShare/10*cost)
}

// sampleAll writes one sample of the system and of all processes.
func (r *Recorder) sampleAll() {
	live := 0
	for _, t := range r.threads {
		if !t.exiting {
			live++
		}
	}
	if r.stop || r.result.Err != nil || live == 0 {
		return
	}
	s := &r.sampler
	begin := time.Now()
	defer func() {
		// One that was slow because the machine was busy does not count.
		took := time.Since(begin)
		s.cost.Store(int64(min(took, s.took)))
		s.took = took
	}()
	s.begin()
	for i := range s.system {
		s.take(&s.system[i])
	}
	for _, p := range r.processes() {
		r.sampleProcess(p, nil)
	}
	r.emit(nil, s.record())
}

// sampleLast writes a sample when the last thread of a process is about to end
// with its memory still there. What lived too shortly to matter has none.
func (r *Recorder) sampleLast(t *thread) {
	p := t.proc
	if !r.opts.MemInfo || r.stop || r.result.Err != nil || p.texts == nil {
		return
	}
	s := &r.sampler
	s.begin()
	for i := range s.system {
		s.take(&s.system[i])
	}
	p.closeTexts()
	r.sampleProcess(p, t)
	r.emit(t, s.record())
	p.closeTexts()
}

// sampleProcess adds the texts of one process, through the thread t where the
// leader may have ended already.
func (r *Recorder) sampleProcess(p *process, t *thread) {
	for _, o := range p.threads {
		if !o.exiting && (t == nil || o.tid == p.pid) {
			t = o
		}
	}
	if t == nil {
		return
	}
	if p.texts == nil || p.texts.mm != t.mm || p.texts.via.exiting {
		p.openTexts(t)
	}
	x, s := p.texts, &r.sampler
	for i := range x.sources {
		src := &x.sources[i]
		if src.name != "smaps_rollup" {
			s.take(src)
			continue
		}
		if now := r.now(); now >= x.next {
			begin := time.Now()
			s.take(src)
			x.next = now + rollupShare*uint64(time.Since(begin))
		}
	}
}

func (p *process) openTexts(t *thread) {
	p.closeTexts()
	p.texts = &procTexts{mm: t.mm, via: t}
	dir := "/proc/" + strconv.Itoa(t.tid) + "/"
	for _, f := range []source{{name: "status", lines: statusLines}, {name: "statm"}, {name: "smaps_rollup"}} {
		file, err := procfs.OpenText(dir + f.name)
		if err != nil {
			continue
		}
		f.file, f.pid = file, p.pid
		p.texts.sources = append(p.texts.sources, f)
	}
}

func (p *process) closeTexts() {
	if p.texts == nil {
		return
	}
	for _, s := range p.texts.sources {
		s.file.Close()
	}
	p.texts = nil
}

func (s *sampler) begin() {
	s.text, s.at = s.text[:0], s.at[:0]
	s.rec.Samples = s.rec.Samples[:0]
}

// take reads one text; one that says nothing is left out.
func (s *sampler) take(src *source) {
	begin := len(s.text)
	text, err := src.file.Append(s.text)
	if err != nil || len(text) == begin {
		return
	}
	if src.lines != nil {
		text = text[:begin+len(procfs.Lines(text[begin:], src.lines))]
	}
	s.text = text
	s.at = append(s.at, len(text))
	s.rec.Samples = append(s.rec.Samples, format.Sample{Source: src.name, PID: uint32(src.pid)})
}

func (s *sampler) record() *format.MemInfo {
	begin := 0
	for i, end := range s.at {
		s.rec.Samples[i].Data = s.text[begin:end:end]
		begin = end
	}
	return &s.rec
}
