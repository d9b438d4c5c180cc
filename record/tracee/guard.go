//go:build linux

// This file has the guard: this program executed once more. It waits for the
// recorder to end, by whatever death, and gives threads that were left pinned
// their affinity back. It reads them from a table that the recorder keeps in a
// memfd.

package tracee

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// guardName is the name by which the program knows that it is the guard.
const guardName = "memtrace: guard"

// Descriptors of the guard.
const (
	guardLife  = 3 // closed by the recorder's death
	guardTable = 4
	guardReady = 5 // closed by the guard when it is there
)

// A row of the table: tid, or 0 for none, the CPU it is pinned to, and its
// affinity before as words.
const (
	cpuWords = len(unix.CPUSet{})
	guardRow = 8 * (2 + cpuWords)
)

// guard is the recorder's end. The zero guard has not been started.
type guard struct {
	table   *os.File
	life    *os.File
	started bool
	ready   atomic.Bool
	free    []int
	rows    int
}

// start starts the guard; nothing may be pinned before it is ready.
func (g *guard) start() error {
	g.started = true
	fd, err := unix.MemfdCreate("memtrace-pins", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	g.table = os.NewFile(uintptr(fd), "memtrace-pins")
	lifeR, lifeW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	defer lifeR.Close()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		lifeW.Close()
		return fmt.Errorf("start the guard: %w", err)
	}
	defer readyW.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	defer null.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{guardName}, &os.ProcAttr{
		Env:   []string{"GOMAXPROCS=1"},
		Files: []*os.File{null, null, null, lifeR, g.table, readyW},
	})
	if err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	g.life = lifeW
	go func() {
		defer readyR.Close()
		if n, _ := readyR.Read(make([]byte, 1)); n == 1 {
			g.ready.Store(true)
		}
		_, _ = p.Wait()
		g.ready.Store(false)
	}()
	return nil
}

// pin notes a thread that is about to be pinned and returns its row.
func (g *guard) pin(tid, cpu int, old *unix.CPUSet) (row int, err error) {
	if n := len(g.free); n > 0 {
		row, g.free = g.free[n-1], g.free[:n-1]
	} else {
		row = g.rows
		g.rows++
	}
	var b [guardRow]byte
	binary.LittleEndian.PutUint64(b[:], uint64(tid))
	binary.LittleEndian.PutUint64(b[8:], uint64(cpu))
	for i, w := range old {
		binary.LittleEndian.PutUint64(b[16+8*i:], uint64(w))
	}
	_, err = g.table.WriteAt(b[:], int64(row*guardRow))
	return row, err
}

// unpin forgets a row.
func (g *guard) unpin(row int) {
	var zero [8]byte
	_, _ = g.table.WriteAt(zero[:], int64(row*guardRow))
	g.free = append(g.free, row)
}

// stop lets the guard go.
func (g *guard) stop() {
	if g.life != nil {
		g.life.Close()
		g.table.Close()
	}
}

// hasMain says that this program becomes the guard when it is executed again.
var hasMain bool

// Main must be the first thing that main does: in the guard it does not return.
func Main() {
	hasMain = true
	if len(os.Args) > 0 && os.Args[0] == guardName {
		runGuard()
		os.Exit(0)
	}
}

// runGuard is the guard's own main.
func runGuard() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU)
	_ = unix.CloseRange(guardReady+1, math.MaxUint32, 0) // what memtrace was given for the program
	ready := os.NewFile(guardReady, "ready")
	_, _ = ready.Write([]byte{1})
	ready.Close()
	for b := make([]byte, 1); ; {
		if _, err := unix.Read(guardLife, b); err != unix.EINTR {
			break
		}
	}
	table := os.NewFile(guardTable, "table")
	var b [guardRow]byte
	for row := int64(0); ; row++ {
		if _, err := table.ReadAt(b[:], row*int64(guardRow)); err != nil {
			return
		}
		tid, cpu := int(binary.LittleEndian.Uint64(b[:])), int(binary.LittleEndian.Uint64(b[8:]))
		var now, old unix.CPUSet
		for i := range old {
			for w := binary.LittleEndian.Uint64(b[16+8*i:]); w != 0; w &= w - 1 {
				old.Set(64*i + bits.TrailingZeros64(w))
			}
		}
		if tid == 0 || unix.SchedGetaffinity(tid, &now) != nil || now.Count() != 1 || !now.IsSet(cpu) {
			continue
		}
		_ = unix.SchedSetaffinity(tid, &old)
	}
}
