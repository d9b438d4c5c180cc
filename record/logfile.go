//go:build linux

// This file has the file that a session writes its log to.

package record

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/mattn/go-isatty"
)

// logFile is where record writes: standard output, or a file of its own that
// nobody else can read and that other memtraces see is being written (flock).
type logFile struct {
	*os.File
	name  string
	final string // with %p, to be replaced when the pid is known
}

// DefaultLog is the name of a log that nobody has named. Somebody else may have put
// something there: only a regular file of our own is taken for an older log.
const DefaultLog = "memtrace.data"

// ErrBusy is the error of a log that another memtrace is writing.
var ErrBusy = errors.New("another memtrace is writing it: name another with -o")

// openLog makes the log. An existing one is kept as NAME.old.
func openLog(name string) (*logFile, error) {
	if name == "-" {
		if isatty.IsTerminal(os.Stdout.Fd()) {
			return nil, fmt.Errorf("standard output is a terminal: redirect it or name a file")
		}
		return &logFile{File: os.Stdout, name: name}, nil
	}
	l := &logFile{name: name}
	if strings.Contains(name, "%p") {
		l.final = name
		l.name = strings.ReplaceAll(name, "%p", "starting-"+strconv.Itoa(os.Getpid()))
	}
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL | syscall.O_NOFOLLOW
	look := os.Stat
	if name == DefaultLog {
		look = os.Lstat
	}
	switch st, err := look(l.name); {
	case err == nil && name == DefaultLog && !ours(st):
		return nil, errors.New("there is something else of that name: name another with -o")
	case err == nil && !st.Mode().IsRegular(): // a FIFO, /dev/null
		flags = os.O_WRONLY
	case err == nil && beingWritten(l.name):
		return nil, ErrBusy
	case err == nil:
		if err := os.Rename(l.name, l.name+".old"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(l.name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	l.File = f
	return l, nil
}

// finish closes the log and returns its name.
func (l *logFile) finish(pid int) string {
	if l.final != "" {
		name := strings.ReplaceAll(l.final, "%p", strconv.Itoa(pid))
		if err := os.Rename(l.name, name); err == nil {
			l.name = name
		}
	}
	if l.name != "-" {
		_ = l.Close()
	}
	return l.name
}

// remove takes a log away in which nothing was recorded.
func (l *logFile) remove() {
	if l.name == "-" {
		return
	}
	if st, err := l.Stat(); err == nil && st.Mode().IsRegular() {
		_ = os.Remove(l.name)
	}
	_ = l.Close()
}

// ours reports whether a file is a regular one of our own.
func ours(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && st.Mode().IsRegular() && int(sys.Uid) == os.Geteuid()
}

// beingWritten reports whether another memtrace is writing a file.
func beingWritten(name string) bool {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
