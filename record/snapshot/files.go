//go:build linux

// This file knows which mapped files are not what they were when the recording began.

package snapshot

import (
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/vma"
)

// Files remembers what was last seen of mapped files.
type Files struct {
	began time.Time
	now   func() uint64
	stat  func(name string) (FileStat, error)
	seen  map[string]fate
	types map[vma.Dev]string // of file systems
	// mounted is when types was looked at. Devices with the major number 0 are made for
	// each mount, and used again.
	mounted uint64
}

// mountTrust is how long a device with the major number 0 is taken for what it was, in
// ns.
const mountTrust = 100_000_000

// served are file systems of which another process, or machine, answers each question:
// it may be one that is traced and waits for us.
var served = []string{"fuse", "fuseblk", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "autofs", "coda", "orangefs", "lustre", "glusterfs", "virtiofs"}

// Served reports whether the file of a mapping is in a file system that somebody serves.
// mounts lists those that there are; it is asked about a device that is not known.
func (f *Files) Served(v vma.VMA, mounts func() (map[vma.Dev]string, error)) bool {
	if v.Kind != vma.FilePrivate && v.Kind != vma.FileShared {
		return false
	}
	_, known := f.types[v.Dev]
	if known && (v.Dev.Major != 0 || f.now()-f.mounted < mountTrust) {
		return f.Foreign(v)
	}
	f.mounted = f.now()
	types, err := mounts()
	if f.types == nil {
		f.types = map[vma.Dev]string{}
	}
	maps.Copy(f.types, types)
	if _, known = f.types[v.Dev]; !known && err == nil {
		f.types[v.Dev] = "" // not mounted where the program sees it
	}
	return f.Foreign(v)
}

// FileStat is what is asked about a file.
type FileStat struct {
	Inode   uint64
	Changed time.Time // its bytes, or what it is
}

// fate is what was last seen of a file.
type fate struct {
	inode    uint64
	looked   uint64 // when
	changing bool
}

const mostFiles = 4096

// Stat asks about a file by name.
func Stat(name string) (FileStat, error) {
	var st unix.Stat_t
	err := unix.Stat(name, &st)
	return FileStat{st.Ino, time.Unix(st.Ctim.Unix())}, err
}

// NewFiles is for a recording that began at a time; now is the time since then in ns,
// and stat, as Stat does, asks about a file.
func NewFiles(began time.Time, now func() uint64, stat func(string) (FileStat, error)) *Files {
	return &Files{began: began, now: now, stat: stat}
}

// Foreign reports whether it is known that the file of a mapping is in a file system
// that somebody serves: nothing may be asked about it, nor any page of it read that is
// not the program's own.
func (f *Files) Foreign(v vma.VMA) bool { return v.File() && f.ForeignDev(v.Dev) }

// ForeignDev is Foreign by the device of a file.
func (f *Files) ForeignDev(dev vma.Dev) bool {
	kind := f.types[dev]
	return slices.Contains(served, kind) || strings.HasPrefix(kind, "fuse.")
}

// Changing says whether the file of a mapping is not what it was when the recording
// began, or has no name any more: nobody can look up later what is in it now, so its
// bytes are kept like those of memory. A look from before since is too old.
func (f *Files) Changing(v vma.VMA, since uint64) bool {
	if v.Kind != vma.FilePrivate && v.Kind != vma.FileShared || f.Foreign(v) {
		return false
	}
	known, ok := f.seen[v.Name]
	if !ok || known.inode != v.Inode || known.looked < since {
		st, err := f.stat(v.Name)
		known = fate{inode: v.Inode, looked: f.now()}
		known.changing = strings.HasSuffix(v.Name, " (deleted)") || err == nil && st.Inode == v.Inode && st.Changed.After(f.began)
		if f.seen == nil || len(f.seen) > mostFiles {
			f.seen = map[string]fate{}
		}
		f.seen[v.Name] = known
	}
	return known.changing
}
