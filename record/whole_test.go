//go:build linux

package record

import (
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/record/tracee/traceetest"
)

// program is a random program that makes threads and processes, executes others, gets
// signals, and ends in all ways.
func program(depth int) func(*simProc) traceetest.Program {
	return func(p *simProc) (ops traceetest.Program) {
		rng := p.sim.rng
		ops = append(ops, traceetest.Handle(unix.SIGUSR1, rng.IntN(2) == 0))
		for range 1 + rng.IntN(3) {
			ops = append(ops, p.calls(rng.IntN(12))...)
			switch n := rng.IntN(7); {
			case n < 2:
				ops = append(ops, p.spawn(p.calls(rng.IntN(20))))
			case n == 2 && depth > 0:
				ops = append(ops, p.fork(program(depth-1)))
			case n == 3 && depth > 0:
				ops = append(ops, p.vfork(func(c *simProc) traceetest.Program {
					return append(c.calls(rng.IntN(4)), c.exec(program(depth-1)))
				}))
			case n == 4:
				ops = append(ops, traceetest.Raise(unix.SIGUSR1))
			case n == 5:
				ops = append(ops, traceetest.Wait("nanosleep", rng.IntN(40), traceetest.ERestartByBlock))
			}
		}
		switch rng.IntN(5) {
		case 0:
			ops = append(ops, traceetest.Raise(unix.SIGSEGV))
		case 1:
			if depth > 0 {
				ops = append(ops, p.exec(program(depth-1)))
			}
		case 2:
			ops = append(ops, traceetest.Exit(3))
		case 3:
			ops = append(ops, traceetest.ExitGroup(4))
		}
		return append(ops, p.calls(3)...)
	}
}

// tally is what some recordings have been about.
type tally struct {
	sync.Mutex
	tables int            // that were compared
	known  map[string]int // pages, by policy and by the way writes were found
	taken  map[string]int // snapshots, by reason and by the way
}

func (c *tally) add(name string, s *sim) {
	known := s.check()
	c.Lock()
	defer c.Unlock()
	c.tables += s.tables
	c.known[name] += known
	for _, e := range s.tape.events {
		if x, ok := e.Record.(*format.Snapshot); ok {
			c.taken[fmt.Sprint(x.Reason, " ", x.Mechanism)]++
		}
	}
}

// TestWhole records simulated programs under all policies, with all ways to find writes:
// a few of each, and more with MEMTRACE_LONG. The log is whole, and right at each step.
func TestWhole(t *testing.T) {
	policies := []string{"none", "exec,exit,signal", "step", "every=3", "syscall=madvise", "interval=1h", "interval=1h,exit,every=5", "default"}
	ways := []format.Dirty{format.DirtyCompare, format.DirtySoft, format.DirtyWPAsync}
	rounds := 2
	if os.Getenv("MEMTRACE_LONG") != "" {
		rounds = 20
	}
	all := tally{known: map[string]int{}, taken: map[string]int{}}
	t.Run("group", func(t *testing.T) {
		for seed := range uint64(rounds * len(policies) * len(ways)) {
			name, way := policies[seed%8], ways[seed/8%3]
			t.Run(fmt.Sprint(name, "-", way, "-", seed), func(t *testing.T) {
				t.Parallel()
				o := Options{Trace: arch.AllCalls(), Follow: true, Snapshot: policy(t, name), Check: seed%5 != 0}
				if seed%4 == 3 {
					o.Trace = everything(t)
				}
				s := newSim(t, seed, o)
				s.soft, s.uffd = way == format.DirtySoft, way == format.DirtyWPAsync
				if o.Snapshot.Interval > 0 {
					s.k.Disturb = func(*traceetest.Kernel, *rand.Rand) {
						if s.ticks++; s.ticks%97 == 0 && !s.due { // as startTimers
							s.due = s.r.Ask(s.interval) == nil
						}
					}
				}
				res := s.run(program(2), program(1))
				if res.Reason != "exit" || o.Check && res.Checks == 0 {
					t.Errorf("%+v", res)
				}
				if left := s.k.Alive(); left != nil {
					t.Errorf("threads %v have not ended", left)
				}
				if len(s.r.memories) > 0 {
					t.Errorf("%d address spaces are left", len(s.r.memories))
				}
				all.add(fmt.Sprint(name, " ", way), s)
			})
		}
	})
	t.Logf("%d tables, known pages %v, snapshots %v", all.tables, all.known, all.taken)
	if all.tables < 2000*rounds {
		t.Errorf("%d tables were compared: too few to tell anything", all.tables)
	}
	for _, way := range ways {
		for _, name := range policies {
			if n := all.known[fmt.Sprint(name, " ", way)]; n < 50*rounds && name != "none" {
				t.Errorf("%s, %v: %d pages were known: too few to tell anything", name, way, n)
			}
		}
		for _, r := range []Reason{ReasonStep, ReasonEvery, ReasonSyscall, ReasonInterval} {
			if all.taken[fmt.Sprint(r, " ", way)] == 0 {
				t.Errorf("no snapshot with reason %v by %v", r, way)
			}
		}
	}
	for _, r := range []Reason{ReasonExec, ReasonExit, ReasonSignal, ReasonAttach} {
		if all.taken[fmt.Sprint(r, " ", format.DirtyCompare)] == 0 {
			t.Errorf("no snapshot with reason %v", r)
		}
	}
	if all.taken[fmt.Sprint(ReasonSweep, " ", format.DirtyWPAsync)] == 0 {
		t.Error("no sweep")
	}
}

// interval takes interval snapshots, sometimes of programs of which the last one was
// just now.
func (s *sim) interval() {
	for m := range s.r.memories {
		if s.rng.IntN(4) > 0 {
			m.sweeps.notBefore = 0
		}
	}
	s.r.intervalSnapshot()
	s.due = false
}
