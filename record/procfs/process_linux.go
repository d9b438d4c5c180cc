// This file reads the files of a process in /proc.

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/proctext"
	"memtrace/format/vma"
)

// ErrGone says that the process has ended, or that its address space has been
// replaced since the Process was opened.
var ErrGone = errors.New("address space is gone")

// Process reads one address space. The kernel binds it to the address space
// that the process had when each file was opened: after an exec a new one is
// needed, and an old one finds nothing more.
type Process struct {
	pid     int
	maps    int // descriptor of /proc/PID/maps
	mem     int // of /proc/PID/mem, -1 where it could not be opened
	pagemap int // of /proc/PID/pagemap, the same
	query   queryBuf
	regions *[2][512]pageRegion
	entries []byte // of pagemap
	noScan  bool   // the kernel has no PAGEMAP_SCAN
	text    []byte
}

// Open opens the address space of a process or thread. It may be read as long as
// any thread has it, also when that one has ended.
func Open(pid int) (*Process, error) {
	p := &Process{pid: pid, mem: -1, pagemap: -1}
	fd, err := p.open("maps", unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	p.maps = fd
	// Without these something is known still: who needs one tries again.
	_ = p.openMem()
	_ = p.openPagemap()
	return p, nil
}

func (p *Process) open(name string, flags int) (int, error) {
	path := "/proc/" + strconv.Itoa(p.pid) + "/" + name
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
		return -1, ErrGone
	}
	return -1, fmt.Errorf("open %s: %w", path, err)
}

// Close closes the descriptors.
func (p *Process) Close() {
	for _, fd := range []int{p.maps, p.mem, p.pagemap} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	p.maps, p.mem, p.pagemap = -1, -1, -1
}

// MapsText reads all of /proc/PID/maps. The kernel hands it out a page at a
// time: it is of one moment only while nobody changes it. The slice is valid
// until the next call.
func (p *Process) MapsText() ([]byte, error) {
	p.text = p.text[:0]
	for off := int64(0); ; {
		if cap(p.text)-len(p.text) < 16<<10 {
			p.text = append(make([]byte, 0, 2*cap(p.text)+32<<10), p.text...)
		}
		n, err := unix.Pread(p.maps, p.text[len(p.text):cap(p.text)], off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if err == unix.ESRCH {
				return nil, ErrGone
			}
			return nil, fmt.Errorf("read /proc/%d/maps: %w", p.pid, err)
		}
		if n == 0 {
			return p.text, nil
		}
		p.text = p.text[:len(p.text)+n]
		off += int64(n)
	}
}

// Maps reads and parses all of /proc/PID/maps.
func (p *Process) Maps() ([]vma.VMA, error) {
	text, err := p.MapsText()
	if err != nil {
		return nil, err
	}
	return ParseMaps(nil, text)
}

// Mapping returns the mapping that holds a, or the next one above it; ok is
// false where there is none. The vsyscall page of x86_64 is none of the
// process's own mappings and is not found. It needs Linux 6.11 (PROCMAP_QUERY):
// errors.ErrUnsupported says that the kernel has it not.
func (p *Process) Mapping(a addr.Addr) (v vma.VMA, ok bool, err error) {
	err = p.query.run(p.maps, a)
	switch err {
	case nil:
	case unix.ENOENT:
		return v, false, nil
	case unix.ESRCH:
		return v, false, ErrGone
	case unix.ENOTTY, unix.EINVAL:
		return v, false, errors.ErrUnsupported
	default:
		return v, false, fmt.Errorf("PROCMAP_QUERY of /proc/%d/maps: %w", p.pid, err)
	}
	return p.query.vma(), true, nil
}

// ReadMem reads the process's memory at a, whatever its protection. It returns
// how many bytes were there before the first that could not be read.
func (p *Process) ReadMem(b []byte, a addr.Addr) (int, error) {
	if err := p.openMem(); err != nil {
		return 0, err
	}
	done := 0
	for done < len(b) {
		n, err := unix.Pread(p.mem, b[done:], int64(uint64(a)+uint64(done)))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("read memory of %d at %v: %w", p.pid, a+addr.Addr(done), err)
		}
		if n == 0 {
			return done, ErrGone
		}
		done += n
	}
	return done, nil
}

// WriteMem writes the process's memory, read-only private mappings included.
func (p *Process) WriteMem(b []byte, a addr.Addr) (int, error) {
	if err := p.openMem(); err != nil {
		return 0, err
	}
	n, err := unix.Pwrite(p.mem, b, int64(a))
	if err != nil {
		return max(n, 0), fmt.Errorf("write memory of %d at %v: %w", p.pid, a, err)
	}
	return n, nil
}

func (p *Process) openMem() (err error) {
	if p.mem < 0 {
		p.mem, err = p.open("mem", unix.O_RDWR)
	}
	return err
}

func (p *Process) openPagemap() (err error) {
	if p.pagemap < 0 {
		p.pagemap, err = p.open("pagemap", unix.O_RDONLY)
	}
	return err
}

// ReadText reads a small file of /proc or /sys whole.
func ReadText(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

// Status reads /proc/PID/status.
func Status(pid int) ([]byte, error) { return ReadText("/proc/" + strconv.Itoa(pid) + "/status") }

// Check reports what is wrong with /proc, if it does not tell of the processes that this
// one sees.
func Check() error {
	self, err := os.Readlink("/proc/self")
	switch {
	case err != nil:
		return fmt.Errorf("/proc is not there (mount -t proc proc /proc): %w", err)
	case self != strconv.Itoa(unix.Getpid()):
		return fmt.Errorf("/proc is that of another PID namespace, in which this process is %s and not %d (mount -t proc proc /proc, or unshare --mount-proc)", self, unix.Getpid())
	}
	return nil
}

// Task is what /proc/PID/stat says of a thread.
type Task struct {
	State  byte // R, S, D, Z, T, t or X
	Worker bool // it runs in the kernel for ever: of io_uring or vhost
}

// Flags of a task that never returns to user mode (include/linux/sched.h).
const (
	pfIOWorker   = 0x10
	pfUserWorker = 0x4000
)

// statFields are the fields of the text of /proc/PID/stat from the third on: the name of the
// program before them may hold blanks and parentheses.
func statFields(text []byte) [][]byte { return bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:]) }

// ReadTask says what a thread is doing.
func ReadTask(tid int) (Task, error) {
	text, err := ReadText("/proc/" + strconv.Itoa(tid) + "/stat")
	if err != nil {
		return Task{}, err
	}
	return ParseTask(text)
}

// Usage is what a process and those of its children that it has waited for have used so far.
type Usage struct {
	User, System      uint64 // ticks of a hundredth of a second
	Minor, Major      uint64 // page faults
	MostResident      uint64 // KiB, of the process alone; so is what follows
	Read, Written     uint64 // bytes of disks
	Waited, Preempted uint64 // how often its threads, but for those that have ended, were switched
}

// ReadUsage reads /proc/PID/stat, status and io, and the status of all threads (fields 10 to 17 of
// proc_pid_stat(5)).
func ReadUsage(pid int) (u Usage, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := ReadText(dir + "/stat")
	if err != nil {
		return u, err
	}
	fields := statFields(text)
	n := func(field int) uint64 {
		if field-3 >= len(fields) {
			return 0
		}
		v, _ := strconv.ParseUint(string(fields[field-3]), 10, 64)
		return v
	}
	u.Minor, u.Major, u.User, u.System = n(10)+n(11), n(12)+n(13), n(14)+n(16), n(15)+n(17)
	number := func(text []byte, key string) uint64 {
		v, _ := proctext.Field(text, key).Number()
		return v
	}
	if text, err = ReadText(dir + "/io"); err == nil { // else the machine does not count
		u.Read, u.Written = number(text, "read_bytes"), number(text, "write_bytes")
	}
	tids, err := Threads(pid)
	if err != nil {
		return u, err
	}
	for _, tid := range tids {
		if text, err = ReadText(dir + "/task/" + strconv.Itoa(tid) + "/status"); err != nil {
			continue // it has ended
		}
		u.MostResident = max(u.MostResident, number(text, "VmHWM"))
		u.Waited += number(text, "voluntary_ctxt_switches")
		u.Preempted += number(text, "nonvoluntary_ctxt_switches")
	}
	return u, nil
}

// Arguments says where the memory of a process has the program's arguments and its
// environment: other processes read them through /proc/PID/cmdline and environ (fields 48
// to 51 of proc_pid_stat(5), which are 0 for who may not trace the process).
func Arguments(pid int) (args, env addr.Range) {
	text, err := ReadText("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return args, env
	}
	fields := statFields(text)
	const first = 48 - 3 // the fields begin with the third
	if len(fields) < first+4 {
		return args, env
	}
	var at [4]addr.Addr
	for i := range at {
		n, _ := strconv.ParseUint(string(fields[first+i]), 10, 64)
		at[i] = addr.Addr(n)
	}
	if at[0] < at[1] {
		args = addr.Range{Start: at[0], End: at[1]}
	}
	if at[2] < at[3] {
		env = addr.Range{Start: at[2], End: at[3]}
	}
	return args, env
}

// ParseTask parses the text of /proc/PID/stat (proc_pid_stat(5)).
func ParseTask(text []byte) (t Task, err error) {
	fields := statFields(text)
	if len(fields) < 7 {
		return t, fmt.Errorf("not the text of /proc/PID/stat: %q", text)
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 64)
	if err != nil {
		return t, fmt.Errorf("not the text of /proc/PID/stat: %q", text)
	}
	return Task{State: fields[0][0], Worker: flags&(pfIOWorker|pfUserWorker) != 0}, nil
}

// Ended reports whether a thread has ended and is only waited for.
func (t Task) Ended() bool { return t.State == 'Z' || t.State == 'X' || t.State == 'x' }

// FDName puts what descriptor fd of a process refers to, as the link in
// /proc/PID/fd says, into buf and returns its length.
func FDName(pid, fd int, buf []byte) (int, error) {
	var path [48]byte
	p := append(path[:0], "/proc/"...)
	p = strconv.AppendInt(p, int64(pid), 10)
	p = append(p, "/fd/"...)
	p = strconv.AppendInt(p, int64(fd), 10)
	return unix.Readlink(string(p), buf)
}

// CloExec says whether an exec closes a descriptor of a process.
func CloExec(pid, fd int) bool {
	flags, ok := fdFlags(pid, fd)
	return ok && flags&unix.O_CLOEXEC != 0
}

// FDInfo is the text of /proc/PID/fdinfo/FD.
func FDInfo(pid, fd int) ([]byte, error) {
	return ReadText("/proc/" + strconv.Itoa(pid) + "/fdinfo/" + strconv.Itoa(fd))
}

// fdFlags are the flags of a descriptor: O_NONBLOCK and its like.
func fdFlags(pid, fd int) (flags uint64, ok bool) {
	text, err := FDInfo(pid, fd)
	if err != nil {
		return 0, false
	}
	flags, err = strconv.ParseUint(proctext.Field(text, "flags").String(), 8, 64)
	return flags, err == nil
}

// Waits reports whether a descriptor of a process is a pipe, a socket or a terminal that
// its writers wait for until it has taken all. With socket it has to be a socket.
func Waits(pid, fd int, socket bool) bool {
	flags, ok := fdFlags(pid, fd)
	if !ok || flags&unix.O_NONBLOCK != 0 {
		return false
	}
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, "/proc/"+strconv.Itoa(pid)+"/fd/"+strconv.Itoa(fd), unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st) != nil {
		return false
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return true
	case unix.S_IFIFO:
		return !socket
	case unix.S_IFCHR: // terminals (Documentation/admin-guide/devices.txt)
		return !socket && (st.Rdev_major >= 3 && st.Rdev_major <= 5 || st.Rdev_major >= 136 && st.Rdev_major <= 143)
	}
	return false
}

// FDs yields the numbers of the open descriptors of a process.
func FDs(pid int) ([]int, error) {
	return numbers("/proc/" + strconv.Itoa(pid) + "/fd")
}

// Threads lists the threads of a process.
func Threads(pid int) ([]int, error) {
	return numbers("/proc/" + strconv.Itoa(pid) + "/task")
}

func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	ns := make([]int, 0, len(names))
	for _, s := range names {
		if n, err := strconv.Atoi(s); err == nil {
			ns = append(ns, n)
		}
	}
	return ns, err
}

// Exe is the path of the program a process runs.
func Exe(pid int) string {
	s, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return s
}

// Cmdline is a process's argument vector as it is in its memory now.
func Cmdline(pid int) []string {
	b, err := ReadText("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	return strings.Split(string(bytes.TrimSuffix(b, []byte{0})), "\x00")
}

// Auxv is the auxiliary vector that a process was started with.
func Auxv(pid int) []byte {
	b, _ := ReadText("/proc/" + strconv.Itoa(pid) + "/auxv")
	return b
}

// Kernel is uname's release and version.
func Kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
}

// Monotonic is CLOCK_MONOTONIC in ns.
func Monotonic() uint64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return uint64(t.Nano())
}
