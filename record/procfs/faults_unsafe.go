//go:build linux

// This file watches the page faults of threads, with perf_event_open(2).

package procfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
)

// From include/uapi/linux/perf_event.h, Linux 6.18.
const (
	perfInheritThread = 1 << 35 // in Bits: threads inherit the event, processes do not
	perfRemoveOnExec  = 1 << 36
	perfHead          = 1024 // in perf_event_mmap_page
	perfTail          = perfHead + 8
	perfSample        = 9 // of type PERF_RECORD_SAMPLE
	perfMiscMode      = 7 // of the misc of a record
	perfMiscKernel    = 1
	mostWatches       = 256
)

// PrepareFaults has the kernel ready to watch page faults, from now on: the first
// watch on a machine takes it some 30 ms.
var PrepareFaults = sync.OnceValue(func() error {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_PAGE_FAULTS, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Bits: unix.PerfBitDisabled,
	}
	_, _, err := openPerf(&attr, os.Getpid(), -1)
	return err
})

// openPerf opens an event, for what happens in the kernel as well if it lets us: at
// perf_event_paranoid 2 it does not without privileges. user says that it did not.
func openPerf(attr *unix.PerfEventAttr, tid, cpu int) (fd int, user bool, err error) {
	fd, err = unix.PerfEventOpen(attr, tid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) && attr.Bits&unix.PerfBitExcludeKernel == 0 {
		attr.Bits |= unix.PerfBitExcludeKernel
		fd, err = unix.PerfEventOpen(attr, tid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	}
	return fd, attr.Bits&unix.PerfBitExcludeKernel != 0, err
}

// faultRings are the page faults of some threads and of those that they make, from when
// they are watched on: perf's software event page-faults. The kernel writes them into one
// ring a CPU.
type faultRings struct {
	attr  unix.PerfEventAttr
	cpus  []int
	bytes int // of each ring
	fds   []int
	rings []faultRing
	user  bool // those that the kernel has when it reads or writes memory for a call are not told
}

// faultRing is a page that says what is where, then records of 8-byte words.
type faultRing struct {
	fd   int // of the event that it belongs to
	page []byte
	data []byte
}

// begin watches threads: each fault makes a record of what sample says. A descriptor
// becomes readable when wake bytes of its ring are full. It fails where the kernel does
// not let us, or where the threads are too many for the number of CPUs.
func (f *faultRings) begin(tids []int, sample uint64, ring, wake int) (err error) {
	if f.cpus, err = online(); err != nil {
		return err
	}
	if len(f.cpus)*len(tids) > mostWatches {
		return fmt.Errorf("watch the page faults of %d threads on %d CPUs: too many", len(tids), len(f.cpus))
	}
	f.bytes = ring
	f.attr = unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_PAGE_FAULTS, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample: 1, Sample_type: sample, Wakeup: uint32(wake),
		Bits: unix.PerfBitInherit | unix.PerfBitWatermark | perfInheritThread | perfRemoveOnExec,
	}
	if sample&unix.PERF_SAMPLE_TIME != 0 {
		f.attr.Bits |= unix.PerfBitUseClockID
		f.attr.Clockid = unix.CLOCK_MONOTONIC
	}
	for _, tid := range tids {
		if err := f.watch(tid); err != nil {
			f.Close()
			return err
		}
	}
	return nil
}

// watch adds a thread, and those that it makes from now on.
func (f *faultRings) watch(tid int) error {
	for i, cpu := range f.cpus {
		fd, user, err := openPerf(&f.attr, tid, cpu)
		if err != nil {
			return fmt.Errorf("watch the page faults of %d: %w", tid, err)
		}
		f.fds = append(f.fds, fd)
		f.user = user
		if i < len(f.rings) {
			err = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_OUTPUT, f.rings[i].fd)
		} else {
			err = f.makeRing(fd)
		}
		if err != nil {
			return fmt.Errorf("watch the page faults of %d: %w", tid, err)
		}
	}
	return nil
}

// makeRing gives an event its ring, a smaller one if the kernel lets us lock no more
// memory (perf_event_mlock_kb, RLIMIT_MEMLOCK).
func (f *faultRings) makeRing(fd int) error {
	for {
		all, err := unix.Mmap(fd, 0, os.Getpagesize()+f.bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err == nil {
			f.rings = append(f.rings, faultRing{fd, all, all[os.Getpagesize():]})
			return nil
		}
		if !errors.Is(err, unix.EPERM) || f.bytes <= leastRing {
			return err
		}
		f.bytes /= 2
	}
}

const leastRing = 32 << 10

// word is where the word at a position of the ring is.
func (r *faultRing) word(pos uint64) *uint64 {
	return (*uint64)(unsafe.Pointer(&r.data[pos%uint64(len(r.data))]))
}

func (r *faultRing) counter(at int) *uint64 { return (*uint64)(unsafe.Pointer(&r.page[at])) }

// empty reports whether there is nothing to take.
func (f *faultRings) empty() bool {
	for i := range f.rings {
		r := &f.rings[i]
		if atomic.LoadUint64(r.counter(perfHead)) != *r.counter(perfTail) {
			return false
		}
	}
	return true
}

// take yields the samples since the last take: a ring and the position of its first
// word behind the header, and the misc of its header. all says that none is missing.
func (f *faultRings) take(yield func(r *faultRing, pos uint64, misc uint16)) (all bool) {
	all = true
	for i := range f.rings {
		r := &f.rings[i]
		head, tail := atomic.LoadUint64(r.counter(perfHead)), *r.counter(perfTail)
		used := head - tail
		for tail < head {
			header := unsafe.Slice((*byte)(unsafe.Pointer(r.word(tail))), 8) // type, misc, size
			size := uint64(binary.NativeEndian.Uint16(header[6:]))
			if used+size >= uint64(len(r.data)) {
				all = false // it was full: the kernel says how many did not fit when the next one comes
			}
			if size == 0 || tail+size > head {
				all = false
				break
			}
			if binary.NativeEndian.Uint32(header) == perfSample {
				yield(r, tail+8, binary.NativeEndian.Uint16(header[4:]))
			} else {
				all = false // some were lost
			}
			tail += size
		}
		atomic.StoreUint64(r.counter(perfTail), head)
	}
	return all
}

// Close ends the watch.
func (f *faultRings) Close() {
	for _, ring := range f.rings {
		_ = unix.Munmap(ring.page)
	}
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
	f.fds, f.rings = nil, nil
}

// Faults are the pages of the page faults of some threads and of those that they make.
// What other processes and the kernel's own threads write into their memory is not among
// them, nor, where the kernel does not let us know, what it writes for their calls.
type Faults struct{ faultRings }

// WatchFaults begins to watch threads. It fails where the kernel does not let us, or
// where they are too many for the number of CPUs.
func WatchFaults(tids []int) (*Faults, error) {
	f := new(Faults)
	if err := f.begin(tids, unix.PERF_SAMPLE_ADDR, leastRing, leastRing); err != nil {
		return nil, err
	}
	return f, nil
}

// Take appends the pages of the faults since the last Take, in no order; all says
// that none is missing. Faults of threads that run meanwhile may be among them.
func (f *Faults) Take(pages []addr.Addr) (_ []addr.Addr, all bool) {
	all = f.take(func(r *faultRing, pos uint64, _ uint16) {
		pages = append(pages, addr.Addr(*r.word(pos)).PageDown())
	})
	return pages, all
}

// Fault is a page fault.
type Fault struct {
	Time   uint64 // CLOCK_MONOTONIC, ns: its beginning
	TID    uint32
	Kernel bool      // the kernel had it, for a call or a signal
	IP     addr.Addr // of the instruction; 0 if Kernel
	Addr   addr.Addr
}

// FaultLog are the page faults of some threads and of those that they make, each with
// its time and place.
type FaultLog struct{ faultRings }

// What a FaultLog has of each fault, in this order (perf_event_open(2)).
const (
	faultSample = unix.PERF_SAMPLE_IP | unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_ADDR
	faultBytes  = 8 + 8 + 8 + 8 + 8 // with the header
	logRing     = 1 << 20
	logMost     = 16 << 20 // bytes of all rings
)

// LogFaults begins to watch threads. A descriptor of l.Descriptors becomes readable when
// another wake faults, or half of what fits, have been on its CPU.
func LogFaults(tids []int, wake uint64) (*FaultLog, error) {
	ring := logRing
	if cpus, err := online(); err == nil {
		for ring > leastRing && ring*len(cpus) > logMost {
			ring /= 2
		}
	}
	l := new(FaultLog)
	if err := l.begin(tids, faultSample, ring, int(min(faultBytes*max(wake, 1), uint64(ring/2)))); err != nil {
		return nil, err
	}
	return l, nil
}

// Watch adds a thread, and those that it makes from now on.
func (l *FaultLog) Watch(tid int) error {
	if len(l.fds)+len(l.cpus) > mostWatches {
		return fmt.Errorf("watch the page faults of %d: too many threads", tid)
	}
	return l.watch(tid)
}

// Kernel says whether faults are told that the kernel has when it reads or writes memory
// for a call.
func (l *FaultLog) Kernel() bool { return !l.user }

// Empty reports whether there is nothing to take.
func (l *FaultLog) Empty() bool { return l.empty() }

// Descriptors are what poll(2) can wait for, one a CPU.
func (l *FaultLog) Descriptors() (fds []int) {
	for i := range l.rings {
		fds = append(fds, l.rings[i].fd)
	}
	return fds
}

// Take appends the faults since the last Take, those of one CPU after those of another
// and each CPU's in order; all says that none is missing.
func (l *FaultLog) Take(faults []Fault) (_ []Fault, all bool) {
	all = l.take(func(r *faultRing, pos uint64, misc uint16) {
		f := Fault{
			IP: addr.Addr(*r.word(pos)), TID: uint32(*r.word(pos + 8) >> 32), Time: *r.word(pos + 16), Addr: addr.Addr(*r.word(pos + 24)),
		}
		if misc&perfMiscMode == perfMiscKernel {
			f.Kernel, f.IP = true, 0
		}
		faults = append(faults, f)
	})
	return faults, all
}

// online lists the CPUs that are in use.
func online() (cpus []int, err error) {
	text, err := ReadText("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, err
	}
	for _, part := range strings.Split(strings.TrimSpace(string(text)), ",") {
		var from, to int
		if n, err := fmt.Sscanf(part, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if err != nil {
			return nil, fmt.Errorf("online CPUs: %q", text)
		}
		for ; from <= to; from++ {
			cpus = append(cpus, from)
		}
	}
	return cpus, nil
}
