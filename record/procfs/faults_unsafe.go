//go:build linux

package procfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
)

// Faults are the page faults of some threads and of those that they make, from when
// they are watched on: perf's software event page-faults, with the address of each
// (perf_event_open(2)). What other processes and the kernel's own threads write into
// their memory is not among them.
type Faults struct {
	fds   []int
	rings [][]byte // one a CPU: a page that says what is where, then records
}

// From include/uapi/linux/perf_event.h, Linux 6.18.
const (
	perfInheritThread = 1 << 35 // in Bits: threads inherit the event, processes do not
	perfHead          = 1024    // in perf_event_mmap_page
	perfTail          = perfHead + 8
	perfRecord        = 16       // bytes
	perfSample        = 9        // of type PERF_RECORD_SAMPLE
	ringBytes         = 32 << 10 // of records, 16 bytes each
	mostWatches       = 256
)

// PrepareFaults has the kernel ready to watch page faults, from now on: the first
// watch on a machine takes it some 30 ms.
var PrepareFaults = sync.OnceValue(func() error {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_PAGE_FAULTS, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Bits: unix.PerfBitDisabled,
	}
	_, err := unix.PerfEventOpen(&attr, os.Getpid(), -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	return err
})

// WatchFaults begins to watch threads. It fails where the kernel does not let us, or
// where they are too many for the number of CPUs.
func WatchFaults(tids []int) (*Faults, error) {
	cpus, err := online()
	if err != nil {
		return nil, err
	}
	if len(cpus)*len(tids) > mostWatches {
		return nil, fmt.Errorf("watch the page faults of %d threads on %d CPUs: too many", len(tids), len(cpus))
	}
	f := new(Faults)
	for _, cpu := range cpus {
		attr := unix.PerfEventAttr{
			Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_PAGE_FAULTS, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
			Sample: 1, Sample_type: unix.PERF_SAMPLE_ADDR, Wakeup: ringBytes,
			Bits: unix.PerfBitInherit | unix.PerfBitWatermark | perfInheritThread,
		}
		first := -1
		for _, tid := range tids {
			fd, err := unix.PerfEventOpen(&attr, tid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
			if err != nil {
				f.Close()
				return nil, fmt.Errorf("watch the page faults of %d: %w", tid, err)
			}
			f.fds = append(f.fds, fd)
			if first >= 0 {
				err = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_OUTPUT, first)
			} else {
				first = fd
				var ring []byte
				if ring, err = unix.Mmap(fd, 0, os.Getpagesize()+ringBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
					f.rings = append(f.rings, ring)
				}
			}
			if err != nil {
				f.Close()
				return nil, fmt.Errorf("watch the page faults of %d: %w", tid, err)
			}
		}
	}
	return f, nil
}

// Take appends the pages of the faults since the last Take, in no order; all says
// that none is missing. Faults of threads that run meanwhile may be among them.
func (f *Faults) Take(pages []addr.Addr) (_ []addr.Addr, all bool) {
	all = true
	for _, ring := range f.rings {
		records := ring[os.Getpagesize():]
		at := func(pos uint64) *byte { return &records[pos%uint64(len(records))] } // records are of 8-byte words
		head := atomic.LoadUint64((*uint64)(unsafe.Pointer(&ring[perfHead])))
		tail := atomic.LoadUint64((*uint64)(unsafe.Pointer(&ring[perfTail])))
		if head-tail >= uint64(len(records))-perfRecord {
			all = false // the kernel says how many did not fit when the next one comes
		}
		for tail < head {
			header := unsafe.Slice(at(tail), 8) // type, misc, size
			size := uint64(binary.NativeEndian.Uint16(header[6:]))
			if size == 0 || tail+size > head {
				all = false
				break
			}
			if binary.NativeEndian.Uint32(header) == perfSample {
				pages = append(pages, addr.Addr(binary.NativeEndian.Uint64(unsafe.Slice(at(tail+8), 8))).PageDown())
			} else {
				all = false // some were lost
			}
			tail += size
		}
		atomic.StoreUint64((*uint64)(unsafe.Pointer(&ring[perfTail])), head)
	}
	return pages, all
}

// Close ends the watch.
func (f *Faults) Close() {
	for _, ring := range f.rings {
		_ = unix.Munmap(ring)
	}
	for _, fd := range f.fds {
		_ = unix.Close(fd)
	}
	f.fds, f.rings = nil, nil
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
