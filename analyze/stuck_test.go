package analyze_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// unreturned is a call that began d ago and never returned.
func unreturned(b *Builder, thread uint32, name string, d time.Duration, args ...uint64) {
	nr, _ := arch.X86_64.Number(name)
	s := &format.Syscall{Arch: arch.X86_64, Nr: nr, Enter: b.Now() + 10240 - min(uint64(d), b.Now())}
	copy(s.Args[:], args)
	b.Event(thread, s)
}

// TestStuck: a process is stuck if each of its threads waits without end for what only its threads can bring
// about, and then alone.
func TestStuck(t *testing.T) {
	const shared = 0x109 // FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME
	sem := func(b *Builder, thread uint32, d time.Duration) {
		unreturned(b, thread, "futex", d, 0x1000+uint64(thread)*0x40, futexWaitBitset, 0, 0)
	}
	killed := func(b *Builder) {
		b.Event(1, &format.Signal{Signo: 9, Fatal: true})
		exited(b, 9)
	}
	const stuck = "STUCK: "
	for name, c := range map[string]struct {
		log  func(b *Builder)
		want string
	}{
		"semaphores": {func(b *Builder) {
			b.Wait(5 * time.Second)
			b.Event(0, &format.MemInfo{})
			b.Wait(time.Second)
			for n := uint32(1); n <= 4; n++ {
				sem(b, n, time.Duration(n)*time.Second)
			}
			killed(b)
		}, "STUCK: all 4 threads of process 100 waited in futex until the end, the last of them since step 8, for 1.00 s. None was left to wake another: only a signal could. " +
			"Thread 100 at 0x1040, thread 101 at 0x1080, thread 102 at 0x10c0 and thread 103 at 0x1100. Record with -k=futex"},
		"too short": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 4; n++ {
				sem(b, n, 999*time.Millisecond)
			}
			killed(b)
		}, "KILLED"},
		"one runs": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 3; n++ {
				sem(b, n, 2*time.Second)
			}
			killed(b)
		}, "KILLED"},
		"one is asleep": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 3; n++ {
				sem(b, n, 2*time.Second)
			}
			unreturned(b, 4, "nanosleep", 2*time.Second)
			killed(b)
		}, "KILLED"},
		"one has a time limit": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 3; n++ {
				sem(b, n, 2*time.Second)
			}
			unreturned(b, 4, "futex", 2*time.Second, 0x1000, futexWaitBitset, 0, 0x7000)
			killed(b)
		}, "KILLED"},
		"one ended before": {func(b *Builder) {
			b.Event(4, &format.Exit{}, &format.ThreadEnd{No: 4})
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 3; n++ {
				sem(b, n, 2*time.Second)
			}
			b.Event(1, &format.Signal{Signo: 9, Fatal: true})
			for n := uint32(2); n <= 3; n++ {
				b.Event(n, &format.Exit{Status: 9}, &format.ThreadEnd{No: n})
			}
			b.Event(1, &format.Exit{Status: 9, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
		}, "STUCK: all 3 threads"},
		"one that never called anything": {func(b *Builder) {
			b.Event(1, &format.Clone{Child: 5, Flags: 0x3d0f00}, Thread(5, 104, 100, 1, 1, 1))
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			killed(b)
		}, "KILLED"},
		"another process shares the memory": {func(b *Builder) {
			b.Event(1, &format.Clone{Child: 5, Flags: 0x111}, Thread(5, 104, 104, 5, 1, 1))
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			killed(b)
		}, "KILLED"},
		"a join": {func(b *Builder) {
			b.Wait(3 * time.Second)
			unreturned(b, 1, "futex", 2*time.Second, 0x9000, shared, 101, 0)
			for n := uint32(2); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			killed(b)
		}, "STUCK: all 4 threads*Thread 100 for the end of thread 101, thread 101 at 0x1080"},
		"shared memory": {func(b *Builder) {
			b.Wait(3 * time.Second)
			unreturned(b, 1, "futex", 2*time.Second, 0x9000, shared, 0, 0)
			for n := uint32(2); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			killed(b)
		}, "KILLED"},
		"shared memory that looks like a join": {func(b *Builder) {
			b.Wait(3 * time.Second)
			unreturned(b, 1, "futex", 2*time.Second, 0x9000, shared, 77, 0)
			for n := uint32(2); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			killed(b)
		}, "KILLED"},
		"the first is ended by the signal": {func(b *Builder) {
			b.Wait(3 * time.Second)
			took(b, 1, "futex", 2*time.Second, erestartsys, 0x1000, futexWaitBitset, 0, 0)
			b.Event(1, &format.Signal{Signo: 15, Fatal: true})
			for n := uint32(2); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			exited(b, 15)
		}, "STUCK: all 4 threads"},
		"a snapshot came between": {func(b *Builder) {
			for range 2 {
				b.Wait(600 * time.Millisecond)
				for n := uint32(1); n <= 4; n++ {
					took(b, n, "futex", 600*time.Millisecond, erestartsys, 0x1000+uint64(n)*0x40, futexWaitBitset, 0, 0)
				}
			}
			b.Wait(time.Millisecond)
			for n := uint32(1); n <= 4; n++ {
				sem(b, n, time.Millisecond)
			}
			killed(b)
		}, "STUCK: all 4 threads of process 100 waited in futex until the end, the last of them since step 7, for 1.2"},
		"a handler ran": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(2); n <= 4; n++ {
				sem(b, n, 2*time.Second)
			}
			took(b, 1, "futex", 2*time.Second, erestartsys, 0x1000, futexWaitBitset, 0, 0)
			b.Event(1, &format.Signal{Signo: 10})
			killed(b)
		}, "KILLED"},
		"it went on": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 4; n++ {
				took(b, n, "futex", 2*time.Second, erestartsys, 0x1000, futexWaitBitset, 0, 0)
				took(b, n, "futex", 1000, 0, 0x1000, futexWaitBitset, 0, 0)
			}
			killed(b)
		}, "KILLED"},
		"locks are a deadlock": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 4; n++ {
				unreturned(b, n, "futex", 2*time.Second, 0x1000, futexWait, 2, 0)
			}
			killed(b)
		}, "DEADLOCK"},
		"let go": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 4; n++ {
				sem(b, n, 2*time.Second)
				b.Event(n, &format.Detach{Reason: "interrupted"})
			}
		}, "STUCK: all 4 threads of process 100 waited in futex until the end of the log, the last of them since step 7, for 2.00 s."},
		"let go while one works": {func(b *Builder) {
			b.Wait(3 * time.Second)
			for n := uint32(1); n <= 3; n++ {
				sem(b, n, 2*time.Second)
			}
			for n := uint32(1); n <= 4; n++ {
				b.Event(n, &format.Detach{Reason: "interrupted"})
			}
		}, "Nothing went wrong"},
		"alone": {func(b *Builder) {
			for n := uint32(2); n <= 4; n++ {
				b.Event(n, &format.Exit{}, &format.ThreadEnd{No: n})
			}
			b.Wait(3 * time.Second)
			sem(b, 1, 2*time.Second)
			b.Event(1, &format.Signal{Signo: 9, Fatal: true})
			b.Event(1, &format.Exit{Status: 9, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
		}, "STUCK: the only thread of process 100 waited in futex until the end, since step 10, for 2.00 s. No other was left to wake it: only a signal could."},
	} {
		t.Run(name, func(t *testing.T) {
			b := began(t)
			c.log(b)
			if strings.HasPrefix(c.want, "KILLED") {
				for _, x := range found(t, b) {
					if strings.HasPrefix(x.Text, stuck) || x.Kind == "stuck" {
						t.Errorf("%q", x.Text)
					}
				}
			}
			findsFirst(t, b, c.want)
		})
	}
}

// TestStuckWhereTheLogWasCut: a wait that the kernel goes on with lasts to the end of a log that was cut, if
// all calls that the program made until then are there.
func TestStuckWhereTheLogWasCut(t *testing.T) {
	for name, c := range map[string]struct {
		inside string
		last   func(b *Builder)
		stuck  bool
	}{
		"waiting":            {"off", func(*Builder) {}, true},
		"one went on":        {"off", func(b *Builder) { took(b, 2, "futex", time.Second, 0, 0x1000, futexWaitBitset, 0, 0) }, false},
		"recorded inside it": {"auto", func(*Builder) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := began(t)
			b.Wait(time.Second)
			for n := uint32(1); n <= 4; n++ {
				took(b, n, "futex", 500*time.Millisecond, erestartsys, 0x1000, futexWaitBitset, 0, 0)
			}
			c.last(b)
			for range 3000 { // so that whole chunks come before the end
				b.Wait(time.Millisecond)
				b.Event(0, &format.MemInfo{Samples: []format.Sample{{Source: "meminfo", Data: fmt.Appendf(nil, "MemFree: %d kB\n", b.Now()%99991)}}})
			}
			log := b.Bytes()
			tr := replay.New(Open(t, log[:len(log)*3/4]))
			tr.Header().Options = []string{"in-process=" + c.inside}
			last, _ := tr.Last()
			r, err := analyze.Findings(context.Background(), tr, analyze.Options{To: last})
			if err != nil {
				t.Fatal(err)
			}
			if !tr.Truncated() || strings.HasPrefix(r.Rows[0].Text, "STUCK: all 4 threads of process 100 waited in futex until the end of the log") != c.stuck {
				t.Errorf("%d steps, cut: %v: %q", last, tr.Truncated(), r.Rows[0].Text)
			}
		})
	}
}
