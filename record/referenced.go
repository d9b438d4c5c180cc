//go:build linux

// This file samples which memory of a process was used in a while: the bits by which the
// kernel sees that a page is used are reset, and read later.

package record

import (
	"errors"
	"math/bits"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/record/procfs"
)

// Names of samples: smaps right before the bits were reset, and referenceTime later. The lines
// "Referenced" of the latter are what was used in between.
const (
	sourceCleared    = "cleared"
	sourceReferenced = "referenced"
)

// When the bits are reset unless the user says so: at this age of a process, and whenever it is
// twice as old.
const firstReference = 8 * time.Second

// referenceTime is how long the use of memory is looked at. What goes before and after may take the
// referenceShare of the time.
const (
	referenceTime  = 2 * time.Second
	referenceShare = 100
)

// LeastReferenced is the smallest Options.ReferencedInterval.
const LeastReferenced = 2 * referenceTime

// referencing is what the user wants to know of the use of memory.
type referencing struct {
	on    bool
	every time.Duration // 0: at firstReference and so on
	warn  func(text string, args ...any)
	told  bool          // that it cannot be known of some process
	due   atomic.Uint64 // ns since the start: when a process is to be read next; 0: none is
}

// referenced is how far the sampling of a process's use has come, in ns since the start.
type referenced struct {
	began  uint64
	clear  uint64 // the bits are reset then
	read   uint64 // and read then; 0: they have not been reset
	failed bool   // and are left alone
}

// next is the first time after now at which the bits are reset.
func (s *referencing) next(began, now uint64) uint64 {
	age, step := now-began, uint64(firstReference)
	if s.every > 0 {
		step = uint64(s.every)
		return began + (age/step+1)*step
	}
	return began + step<<bits.Len64(age/step)
}

// look resets the bits of a process, or reads them, when it is time: take takes a sample of smaps,
// under a name, and reports whether it has any large mapping. The kernel goes over all pages for
// each, so that the bits of a large process are reset less often, and what has no large mapping, or too
// many mappings, is looked at less often.
func (s *referencing) look(r *referenced, tid int, now uint64, take func(source string) bool) {
	begin := time.Now()
	switch {
	case r.failed:
	case r.read > 0:
		if now >= r.read {
			take(sourceReferenced)
			r.read, r.clear = 0, max(s.next(r.began, now), now+referenceShare*uint64(time.Since(begin)))
		}
	case now < r.clear:
	case !take(sourceCleared):
		r.clear = now + referenceShare*uint64(time.Since(begin))
	default:
		if err := procfs.ClearReferenced(tid); err != nil {
			s.cannot(r, err)
			break
		}
		r.read = now + uint64(time.Since(begin)+referenceTime)
	}
}

// cannot leaves a process alone whose bits cannot be reset, and says so, once for all.
func (s *referencing) cannot(r *referenced, err error) {
	r.failed = true
	if ended := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH); ended || s.told {
		return
	}
	s.told = true
	s.warn("it is not known of every process which memory it uses (--referenced): %v", err)
}
