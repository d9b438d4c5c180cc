//go:build linux

package record

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"memtrace/format"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// TestSampler samples files of a directory: lines that matter, one after the other, and
// none of a file that says nothing.
func TestSampler(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) *procfs.Text {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := procfs.OpenText(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	s := sampler{procs: map[*tracee.Process]*procTexts{}}
	s.system = []source{
		{name: "meminfo", file: put("a", "MemTotal: 1 kB\n")},
		{name: "pressure", file: put("b", "")},
		{name: "vmstat", file: put("c", "pgfault 5\nnr_free 7\npgfree 6\n"), lines: vmstatLines},
		{name: "cgroup.max", pid: 5, file: put("d", "max\n")},
	}
	for i := range 2 { // what was sampled before is not in it
		s.begin()
		var got []string
		for _, x := range s.record().Samples {
			got = append(got, x.Source+" "+string(x.Data))
		}
		want := []string{"meminfo MemTotal: 1 kB\n", "vmstat pgfault 5\npgfree 6\n", "cgroup.max max\n"}
		if i == 1 {
			want[0] = "meminfo MemTotal: 22 kB\n"
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, not %q", got, want)
		}
		put("a", "MemTotal: 22 kB\n").Close()
	}
	if x := s.record().Samples[2]; x.PID != 5 {
		t.Errorf("%+v", x)
	}
	s.close()
}

// TestSamplerProcess samples this process: through its leader, in files that are opened
// again for another address space, and where their thread has ended.
func TestSamplerProcess(t *testing.T) {
	var s sampler
	s.open([]int{os.Getpid()})
	for _, x := range s.system {
		if of := strings.HasPrefix(x.name, "cgroup."); of != (x.pid == os.Getpid()) {
			t.Errorf("%s is of process %d", x.name, x.pid)
		}
	}
	sp := &tracee.Space{}
	p := &tracee.Process{PID: os.Getpid(), Threads: map[int]*tracee.Thread{}}
	th := &tracee.Thread{TID: os.Getpid(), Proc: p, Space: sp}
	p.Threads[th.TID] = th
	s.begin()
	s.process(p, nil, 1)
	sources := map[string]string{}
	for _, x := range s.record().Samples {
		sources[x.Source] = string(x.Data)
		if x.Source == "status" && x.PID != uint32(p.PID) {
			t.Errorf("%+v", x)
		}
	}
	if !strings.HasPrefix(sources["status"], "Name:") || strings.Contains(sources["status"], "SigCgt") || sources["statm"] == "" || sources["meminfo"] == "" {
		t.Errorf("%q", sources)
	}
	x := s.procs[p]
	if x.rollup <= 1 {
		t.Error("the rollup would be read again at once")
	}
	s.process(p, nil, 1)
	if s.procs[p] != x {
		t.Error("the files are opened again for nothing")
	}
	read := func(last *tracee.Thread, now uint64) bool {
		s.begin()
		s.process(p, last, now)
		return slices.ContainsFunc(s.record().Samples, func(x format.Sample) bool { return x.Source == "smaps" })
	}
	large := make([]byte, 8*largeMapping)
	for i := range large {
		large[i] = 1
	}
	if read(th, 2) {
		t.Error("mappings are sampled at the end of a short process")
	}
	if x = s.procs[p]; !read(nil, uint64(smapsGap)+2) || read(nil, uint64(smapsGap)+3) || !x.mapped {
		t.Error("mappings are sampled at their time, and not again at once")
	}
	if !read(th, uint64(smapsGap)+4) {
		t.Error("mappings are not sampled at the end of a process")
	}
	runtime.KeepAlive(large)
	x = s.procs[p]
	th.Space = &tracee.Space{}
	s.process(p, nil, 1)
	if s.procs[p] == x || s.procs[p].space != th.Space {
		t.Error("the files are those of another address space")
	}
	s.forget(p)
	s.forget(p)
	if len(s.procs) > 0 {
		t.Error("not forgotten")
	}
	s.process(p, nil, 1)
	s.close()
	if len(s.procs) > 0 {
		t.Error("files are left open")
	}
	s.process(&tracee.Process{PID: 1, Threads: map[int]*tracee.Thread{}}, nil, 1)
}
