// This file reads the names of code that a program makes at run time, as it leaves them for
// perf(1).

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotOwn says that a perf map is not the program's own: it is not a regular file, or another
// user's.
var ErrNotOwn = errors.New("not a file of the program's own")

// perfMapTime is how long PerfMap waits for a file system.
const perfMapTime = time.Second

// PerfMap reads /tmp/perf-PID.map as the thread tid sees it, whose process has the number pid
// in its own PID namespace: at most limit bytes of it, in whole lines. It is empty if there
// is none. whole is false if there is more.
func PerfMap(tid int, pid uint32, limit int) (text []byte, whole bool, err error) {
	type result struct {
		text  []byte
		whole bool
		err   error
	}
	done := make(chan result, 1)
	go func() { // whoever serves /tmp may be traced, and stand
		var r result
		r.text, r.whole, r.err = perfMap(tid, pid, limit)
		done <- r
	}()
	select {
	case r := <-done:
		return r.text, r.whole, r.err
	case <-time.After(perfMapTime):
		return nil, false, fmt.Errorf("read the perf map of process %d: it takes too long", pid)
	}
}

func perfMap(tid int, pid uint32, limit int) (text []byte, whole bool, err error) {
	wrap := func(err error) error { return fmt.Errorf("read the perf map of process %d: %w", pid, err) }
	proc := "/proc/" + strconv.Itoa(tid)
	root, err := unix.Open(proc+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, true, wrap(err)
	}
	defer unix.Close(root)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY, Resolve: unix.RESOLVE_IN_ROOT}
	fd, err := unix.Openat2(root, "tmp/perf-"+strconv.FormatUint(uint64(pid), 10)+".map", &how)
	if errors.Is(err, unix.ENOENT) {
		return nil, true, nil
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, true, wrap(ErrNotOwn)
	}
	if err != nil {
		return nil, true, wrap(err)
	}
	f := os.NewFile(uintptr(fd), "perf map")
	defer f.Close()
	var st, own unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, true, wrap(err)
	}
	if err := unix.Stat(proc, &own); err != nil {
		return nil, true, wrap(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != own.Uid {
		return nil, true, wrap(ErrNotOwn)
	}
	text, err = io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, true, wrap(err)
	}
	if len(text) <= limit {
		return text, true, nil
	}
	return text[:bytes.LastIndexByte(text[:limit], '\n')+1], false, nil
}
