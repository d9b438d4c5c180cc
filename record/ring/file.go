//go:build linux

// This file has the files that a ring is kept in: they have their names when they are whole, and what
// a memtrace that was killed has left of one goes when the next begins.

package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// unfinishedName is the beginning of the name of a log that is not whole.
const unfinishedName = ".memtrace-kept-"

// unfinished makes a file in a folder for a log that is not whole yet. It is locked while it is open,
// so that sweep leaves it alone.
func unfinished(dir string) (*os.File, error) {
	for {
		f, err := os.CreateTemp(dir, unfinishedName+"*")
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		locked := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err := unix.Fstat(int(f.Fd()), &st); !errors.Is(locked, unix.EWOULDBLOCK) && (err != nil || st.Nlink > 0) {
			return f, nil // on a file system without locks, too: sweep cannot have one there either
		}
		_ = f.Close() // a sweep was faster
	}
}

// sweep removes what killed memtraces of this user have left of logs that they did not finish.
func sweep(dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return // whoever wants a file there will say so
	}
	for _, e := range files {
		if !strings.HasPrefix(e.Name(), unfinishedName) || !e.Type().IsRegular() {
			continue
		}
		name := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.Remove(name)
		}
		_ = f.Close()
	}
}

// publish gives a file its name. What has the name is kept as NAME.old, if it is a file.
func publish(from, name string) error {
	if st, err := os.Lstat(name); err == nil && st.Mode().IsRegular() {
		if err := os.Rename(name, name+".old"); err != nil {
			return err
		}
	} else if err == nil {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrExist}
	}
	return os.Rename(from, name)
}

// syncFolder waits until the names in a folder are on the disk, where the file system can do that, and
// the folder may be read.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("the log is whole, but its name may not outlast the machine: %w", err)
	}
	return nil
}
