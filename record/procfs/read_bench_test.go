//go:build linux

package procfs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"memtrace/format/addr"
	"memtrace/record/ptrace"
	"memtrace/record/recordtest"
)

const benchSize = 16 << 20

var benchMemory []byte

// TestBenchChild is no test: it is the program whose memory BenchmarkRead reads.
func TestBenchChild(t *testing.T) {
	if os.Getenv("MEMTRACE_BENCH_CHILD") == "" {
		return // run as a test there is nothing to do
	}
	benchMemory = make([]byte, benchSize)
	for i := range benchMemory {
		benchMemory[i] = byte(i * 7)
	}
	fmt.Printf("%p\n", &benchMemory[0])
	var b [1]byte
	_, _ = os.Stdin.Read(b[:]) // until the benchmark ends
}

// BenchmarkRead compares /proc/PID/mem with PTRACE_PEEKDATA
// (docs/performance.md).
func BenchmarkRead(b *testing.B) {
	c := exec.Command(os.Args[0], "-test.run=TestBenchChild")
	c.Env = append(os.Environ(), "MEMTRACE_BENCH_CHILD=1")
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	var a uint64
	if _, err := fmt.Fscanf(bufio.NewReader(out), "0x%x\n", &a); err != nil {
		b.Fatal(err)
	}
	pid := c.Process.Pid
	// Only the thread that traces may peek, and each benchmark has one of its own.
	work, done := make(chan func()), make(chan struct{})
	defer close(work)
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
			done <- struct{}{}
		}
	}()
	traced := func(f func()) { work <- f; <-done }
	traced(func() {
		if err = ptrace.Seize(pid, 0); err == nil {
			err = ptrace.Interrupt(pid)
		}
		if err == nil {
			_, err = ptrace.Wait(false)
		}
	})
	recordtest.Require(b, "ptrace", err)
	p, err := Open(pid)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	buf := make([]byte, benchSize)
	check := func(b *testing.B, n int) {
		for _, i := range []int{0, n / 2, n - 1} {
			if buf[i] != byte(i*7) {
				b.Fatalf("byte %d is %d, want %d", i, buf[i], byte(i*7))
			}
		}
	}
	for _, n := range []int{4 << 10, 64 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("mem/%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				if got, err := p.ReadMem(buf[:n], addr.Addr(a)); err != nil || got != n {
					b.Fatal(got, err)
				}
			}
			check(b, n)
		})
		b.Run(fmt.Sprintf("peek/%dKiB", n>>10), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				var got int
				traced(func() { got, err = syscall.PtracePeekData(pid, uintptr(a), buf[:n]) })
				if err != nil || got != n {
					b.Fatal(got, err)
				}
			}
			check(b, n)
		})
	}
}
