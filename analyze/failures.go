package analyze

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
)

// failure is one way in which calls fail.
type failure struct {
	callKey
	errno int
	path  string
}

type failures struct {
	n     uint64
	first format.Step
	pid   uint32
	// closed is at which step the descriptor fd was closed that a call was not to use; 0: not known.
	fd     uint64
	closed format.Step
}

// sought is a name that a process looks for in several directories.
type sought struct {
	pid  uint32
	name string
}

// mostSought is how many names are kept that were looked for, and how many failures of each.
const mostSought = 256

// seek keeps that a name was not in a directory.
func (f *findings) seek(pid uint32, x *failure) {
	switch arch.ErrnoName(x.errno) {
	case "EACCES", "ENOENT", "ENOTDIR":
	default:
		return
	}
	if !strings.Contains(x.path, "/") {
		return
	}
	k := sought{pid, path.Base(x.path)}
	if f.sought == nil || len(f.sought) >= mostSought && f.sought[k] == nil {
		f.sought = map[sought][]failure{}
	}
	if l := f.sought[k]; len(l) < mostSought {
		f.sought[k] = append(l, *x)
	}
}

// foundName takes back the failures of a search that has come to its end: the name was in another
// directory.
func (f *findings) foundName(pid uint32, file string) {
	k := sought{pid, path.Base(file)}
	var left []failure
	for _, x := range f.sought[k] {
		if x.path == file { // the file was made, or its mode changed: that was no search
			left = append(left, x)
			continue
		}
		if c := f.fails[x]; c != nil {
			if c.n--; c.n == 0 {
				delete(f.fails, x)
			}
		}
		if g, ok := f.grave[pid]; ok && g.failure == x {
			delete(f.grave, pid)
		}
		f.last[pid] = slices.DeleteFunc(f.last[pid], func(l failedCall) bool { return l.failure == x })
	}
	if left == nil {
		delete(f.sought, k)
	} else {
		f.sought[k] = left
	}
}

// descriptor is one of a process.
type descriptor struct {
	pid uint32
	fd  uint64
}

// mostClosed is of how many descriptors it is kept when they were closed.
const mostClosed = 1 << 16

// closes keeps when descriptors are closed.
func (f *findings) closes(m *replay.Moment, s *format.Syscall, name string) {
	if name != "close" || !s.Returned {
		return
	}
	if f.closed == nil || len(f.closed) >= mostClosed {
		f.closed = map[descriptor]format.Step{}
	}
	f.closed[descriptor{m.Thread.TGID, s.Args[0]}] = m.Event.Step
}

// socketError is the error that a program read of a socket: that of a connect that it did not wait for.
func socketError(s *format.Syscall, name string) (int, bool) {
	const socketLevel, lastError, value = 1, 4, 3
	if name != "getsockopt" || s.Ret != 0 || !s.Returned || s.Args[1] != socketLevel || s.Args[2] != lastError {
		return 0, false
	}
	for i := range s.Bufs {
		if b := &s.Bufs[i]; b.Out && b.Arg == value && len(b.Data) >= 4 {
			n := int(int32(binary.LittleEndian.Uint32(b.Data)))
			return n, n > 0
		}
	}
	return 0, false
}

type failedCall struct {
	failure
	step format.Step
	time uint64 // ns
}

// mostFailures is how many ways to fail are kept.
const mostFailures = 4096

// fail looks at a call that may have failed.
func (f *findings) fail(m *replay.Moment, s *format.Syscall, name string) {
	if !failed(s) && name != "getsockopt" && name != "close" && len(f.sought) == 0 {
		return
	}
	x := failure{callKey{s.Arch, s.Nr}, int(-s.Ret), pathOf(s)}
	if errno, ok := socketError(s, name); ok { // of a connect that did not wait
		nr, _ := s.Arch.Number("connect")
		name = "connect"
		x = failure{callKey: callKey{s.Arch, nr}, errno: errno}
	} else if !failed(s) {
		f.closes(m, s, name)
		if len(f.sought) > 0 && s.Returned && x.path != "" {
			f.foundName(m.Thread.TGID, x.path)
		}
		return
	}
	why := weight(name, x.errno)
	if why == usual {
		return
	}
	if f.fails == nil {
		f.fails, f.last, f.grave = map[failure]*failures{}, map[uint32][]failedCall{}, map[uint32]failedCall{}
	}
	if !looksUp(&x) {
		last := f.last[m.Thread.TGID]
		f.last[m.Thread.TGID] = append(last[max(0, len(last)-mostLast+1):], failedCall{x, m.Event.Step, m.Event.Time})
	}
	f.seek(m.Thread.TGID, &x)
	if why == grave {
		f.grave[m.Thread.TGID] = failedCall{x, m.Event.Step, m.Event.Time}
	}
	switch c := f.fails[x]; {
	case c != nil:
		c.n++
	case len(f.fails) < mostFailures:
		f.fails[x] = &failures{n: 1, first: m.Event.Step, pid: m.Thread.TGID}
		if arch.ErrnoName(x.errno) == "EBADF" {
			f.fails[x].fd, f.fails[x].closed = s.Args[0], f.closed[descriptor{m.Thread.TGID, s.Args[0]}]
		}
	}
}

// mostLast is how many failures of a process are kept, of which one may be why it ended.
const mostLast = 16

// A failure that may be why a process ended lies no further before its end: that many steps, or
// that time.
const (
	shortlySteps = 50
	shortlyTime  = 20_000_000 // ns
)

// shortlyBefore is how many steps a failure may lie before what a process says of it.
const shortlyBefore = 20

// lastOf is the last failure of a process that may be why it ended: one of a path that it
// complained of, if there is one; else one shortly before its end, and before what it said.
func (f *findings) lastOf(l *replay.Life) (failedCall, bool) {
	last := f.last[l.PID]
	said := f.wrote(l.PID)
	for _, x := range slices.Backward(last) {
		if x.path != "" && strings.Contains(said, path.Base(x.path)) {
			return x, true
		}
	}
	w := f.said[l.PID]
	for _, x := range slices.Backward(last) {
		if w != nil && x.step > w.step {
			continue // of what it did after it had said what was wrong
		}
		near := l.Last <= x.step+shortlySteps || l.End <= x.time+shortlyTime
		return x, near && (w == nil || w.step <= x.step+shortlyBefore)
	}
	return failedCall{}, false
}

// looksUp reports whether a failure is one of those that every program has, of the loader and
// the C library, which look for files in several places.
func looksUp(x *failure) bool {
	if arch.ErrnoName(x.errno) != "ENOENT" {
		return false
	}
	for _, in := range []string{"/usr/", "/lib", "/etc/ld.so.", "/etc/localtime", "/etc/nsswitch.conf", "/var/run/nscd/"} {
		if strings.HasPrefix(x.path, in) {
			return true
		}
	}
	return x.path == "" || strings.Contains(x.path, ".so")
}

// pathOf is the path that a call names.
func pathOf(s *format.Syscall) string {
	row, ok := s.Arch.Syscall(s.Nr)
	if !ok || row.Flags&arch.File == 0 {
		return ""
	}
	for i := range s.Bufs {
		if b := &s.Bufs[i]; !b.Out && b.Arg < uint8(len(s.Args)) {
			return string(b.Data)
		}
	}
	return ""
}

// gravity is how much a failure says.
type gravity uint8

const (
	usual   gravity = iota // programs ask so, to see whether there is something
	notable                // if it happens over and over, or is the last before an end
	grave
)

// weight is how much it says that a call failed so.
func weight(name string, errno int) gravity {
	switch arch.ErrnoName(errno) {
	case "EAGAIN", "EINTR", "EINPROGRESS", "EALREADY", "ECHILD", "ENOTTY", "ESPIPE", "ENODATA", "ERANGE", "ENOSYS", "EOPNOTSUPP", "ENOPROTOOPT", "EINVAL", "ESRCH", "EISCONN":
		return usual
	case "ETIMEDOUT":
		if name == "connect" || name == "read" || name == "recvfrom" {
			return grave
		}
		return usual
	case "EACCES", "EROFS":
		if name == "access" || name == "faccessat" || name == "faccessat2" {
			return usual
		}
		return grave
	case "ENOMEM":
		if name == "madvise" || name == "mincore" || name == "msync" {
			return usual
		}
		return grave
	case "EBADF":
		if name == "close" || name == "fcntl" || name == "fcntl64" || name == "close_range" {
			return usual
		}
		return grave
	case "EMFILE", "ENFILE", "ENOSPC", "EDQUOT", "EIO", "EFBIG", "ECONNREFUSED", "ECONNRESET", "EADDRINUSE", "EADDRNOTAVAIL", "ENETUNREACH", "EHOSTUNREACH",
		"ENOBUFS", "ESTALE", "ELOOP", "ENAMETOOLONG":
		return grave
	}
	return notable
}

// overAndOver is how often the same has to fail to be told of by itself.
const overAndOver = 1000

// fileAt is the file that the call at a step names, "" if it names none.
func fileAt(ctx context.Context, t *replay.Trace, step format.Step) (name string, err error) {
	o := Options{From: step, To: step}
	err = eachCall(ctx, t, o, func(p *replay.Printer, m *replay.Moment, _ *format.Syscall) {
		if names := filesOf(p, m); len(names) > 0 {
			name = names[0]
		}
	})
	return name, err
}

// failures are the failed calls that say most, at most two.
func (f *findings) failures(ctx context.Context, t *replay.Trace, o Options) ([]Finding, error) {
	type row struct {
		failure
		*failures
	}
	var rows []row
	for x, c := range f.fails {
		if w := weight(replay.CallName(x.id, x.nr), x.errno); w == grave || c.n >= overAndOver {
			rows = append(rows, row{x, c})
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.first, b.first)) })
	var out []Finding
	for _, x := range rows[:min(len(rows), 2)] {
		text := fmt.Sprintf("FAILED: %s failed %s with %s", x.what(), times(x.n), x.why())
		if x.n > 1 {
			text += ", first"
		}
		text += fmt.Sprintf(" at step %d", x.first)
		about := x.first
		if x.closed > 0 {
			about = x.closed
		}
		file := ""
		if x.path == "" {
			var err error
			if file, err = fileAt(ctx, t, about); err != nil {
				return nil, err
			}
		}
		switch {
		case x.closed > 0 && file != "":
			text += fmt.Sprintf("; descriptor %d (%s) was closed at step %d", x.fd, file, x.closed)
		case x.closed > 0:
			text += fmt.Sprintf("; descriptor %d was closed at step %d", x.fd, x.closed)
		case file != "":
			text += fmt.Sprintf(" (%s)", file)
		}
		text += "."
		out = append(out, Finding{
			Kind: "failures", Text: text, Step: &x.first, PID: &x.pid,
			Then: o.command("report", "errors"), Also: o.command("replay", fmt.Sprintf("--from %d", x.first)),
		})
	}
	return out, nil
}

// what is the call that failed.
func (x *failure) what() string {
	name := replay.CallName(x.id, x.nr)
	if x.path != "" {
		name += fmt.Sprintf(" of %q", x.path)
	}
	return name
}

// why is the error that the call failed with.
func (x *failure) why() string {
	return fmt.Sprintf("%s (%s)", arch.ErrnoName(x.errno), arch.ErrnoText(x.errno))
}

func times(n uint64) string { return plural(n, "time", "times") }
