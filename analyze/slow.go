package analyze

import (
	"fmt"

	"memtrace/format"
	"memtrace/replay"
)

// slowCall is what calls of one kind took that took long.
type slowCall struct {
	calls, total, longest uint64 // ns
	step                  format.Step
	pid                   uint32
}

// slowly looks at how long a call took.
func (f *findings) slowly(m *replay.Moment, s *format.Syscall, name string) {
	d := m.Event.Time - min(s.Enter, m.Event.Time)
	if !works(name) || d <= longCall || !slowStorage(name) && (d <= longOther || f.waits.held(s)) {
		return
	}
	if f.slow == nil {
		f.slow = map[callKey]*slowCall{}
	}
	key := callKey{s.Arch, s.Nr}
	c := f.slow[key]
	if c == nil {
		c = &slowCall{}
		f.slow[key] = c
	}
	c.calls++
	c.total += d
	if d > c.longest {
		c.longest, c.step, c.pid = d, m.Event.Step, m.Thread.TGID
	}
}

// longCall is what a call may take that does not count: recording takes some of it.
const (
	longCall  = 200_000    // ns
	longOther = 10_000_000 // ns, of calls that storage does not slow down: a busy machine takes that much
)

// slowStorage reports whether a call waits for storage or for another machine, however busy this
// one is.
func slowStorage(name string) bool {
	switch name {
	case "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync", "connect":
		return true
	}
	return false
}

// works reports whether a call does something at once, as opposed to one that is asked to
// wait for somebody else.
func works(name string) bool {
	switch name {
	case "open", "openat", "openat2", "creat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
		"unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "mkdir", "mkdirat", "rmdir",
		"getdents", "getdents64", "fsync", "fdatasync", "sync", "syncfs", "sync_file_range", "msync", "pread64", "preadv", "preadv2", "pwrite64", "pwritev",
		"fallocate", "ftruncate", "truncate", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "brk", "mlock", "mlockall", "connect",
		"mount", "umount2", "statfs", "fstatfs", "copy_file_range", "getrandom":
		return true
	}
	return false
}

// Slow calls are told of if they took that part of the time, and that long.
const (
	slowShare  = 10
	slowOthers = 4           // of calls that a busy machine slows down, too
	slowLeast  = 100_000_000 // ns
)

// slowest is the call that took most time, without having been asked to wait.
func (f *findings) slowest(o Options, end uint64) (Finding, bool) {
	var key callKey
	var most *slowCall
	for k, c := range f.slow {
		if most == nil || c.total > most.total || c.total == most.total && c.step < most.step {
			key, most = k, c
		}
	}
	if most == nil || most.total < slowLeast {
		return Finding{}, false
	}
	share := uint64(slowOthers)
	if slowStorage(replay.CallName(key.id, key.nr)) {
		share = slowShare
	}
	if most.total < end/share {
		return Finding{}, false
	}
	text := fmt.Sprintf("SLOW: %s took %s of %s", replay.CallName(key.id, key.nr), Span(most.total), Span(end))
	if most.calls > 1 {
		text += fmt.Sprintf(" in %d calls, the longest %s", most.calls, Span(most.longest))
	}
	return Finding{
		Kind: "slow", Text: fmt.Sprintf("%s at step %d.", text, most.step), Step: &most.step, PID: &most.pid,
		Then: o.command("report", "slow"), Also: o.command("replay", fmt.Sprintf("--at %d", most.step)),
	}, true
}
