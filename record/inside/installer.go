//go:build linux

// This file maps code and slots into programs, by calls that their threads make.

package inside

import (
	"bytes"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/inproc"
	"memtrace/record/procfs"
	"memtrace/record/tracee"
)

// fileName is what our file is called in a program.
const fileName = "memtrace-inside"

// mapping is how the kernel prints our mappings.
const mapping = "/memfd:" + fileName + " (deleted)"

// installer maps the code, or a slot.
type installer struct {
	in    *tracee.Injector
	tid   int
	raw   Raw
	code  inproc.Code
	slot  int
	fresh bool // nothing is mapped yet
	ours  bool // the slot is mapped, and is somebody else's: of the process that this one was copied from
	err   error
	off   bool // the thread has reported something else: another time
}

// call makes a call in the program.
func (i *installer) call(name string, args ...uint64) int64 {
	if i.err != nil || i.off {
		return -1
	}
	ret, err := i.in.Call(name, args...)
	switch {
	case err != nil:
		i.off = true
	case ret < 0 && ret >= -4095:
		i.err = unix.Errno(-ret)
	}
	return ret
}

// file maps a file of ours, private and executable. Its contents are written from outside.
func (i *installer) file(at addr.Addr, n uint64) bool {
	i.call("mmap", uint64(at), n, unix.PROT_READ|unix.PROT_WRITE, mapPrivate|unix.MAP_ANONYMOUS|unix.MAP_FIXED_NOREPLACE|unix.MAP_NORESERVE, noFD, 0)
	if i.err != nil || i.off {
		return false
	}
	if _, err := i.raw.WriteMem(append([]byte(fileName), 0), at); err != nil {
		return false
	}
	fd := i.call("memfd_create", uint64(at), memfdFlags)
	if i.err != nil || i.off {
		return false
	}
	if own, err := procfs.TakeFD(i.tid, int(fd)); err == nil {
		_ = unix.Ftruncate(own, int64(n))
		_ = unix.Close(own)
	}
	i.call("mmap", uint64(at), n, unix.PROT_READ|unix.PROT_EXEC, mapPrivate|mapFixed, uint64(fd), 0)
	i.call("close", uint64(fd))
	return i.err == nil && !i.off
}

const (
	mapPrivate = unix.MAP_PRIVATE
	mapShared  = unix.MAP_SHARED
	mapFixed   = unix.MAP_FIXED
	memfdFlags = 0x11 // MFD_CLOEXEC, MFD_EXEC (Linux 6.3)
	noFD       = ^uint64(0)
)

// run maps code and shared part, and returns the latter as this process has it mapped; nil
// if it has to be tried again.
func (i *installer) run(image []byte) (shared []byte, err error) {
	base, slot := uint64(i.code.Base), uint64(i.code.Slot(i.slot))
	name, length := slot, uint64(inproc.SlotLen)
	if i.fresh {
		name, length = base, inproc.CodeLen+inproc.SlotLen
	}
	fixed := uint64(unix.MAP_FIXED_NOREPLACE)
	if i.ours {
		fixed = mapFixed
	}
	i.call("mmap", name, length, unix.PROT_READ|unix.PROT_WRITE, mapPrivate|unix.MAP_ANONYMOUS|fixed|unix.MAP_NORESERVE, noFD, 0)
	if i.err != nil || i.off {
		return nil, i.err
	}
	defer func() {
		if shared == nil {
			i.err = nil
			i.call("munmap", name, length)
		}
	}()
	if _, err := i.raw.WriteMem(append([]byte(fileName), 0), addr.Addr(name)); err != nil {
		return nil, err
	}
	fd := i.call("memfd_create", name, memfdFlags)
	if i.err != nil || i.off {
		return nil, i.err
	}
	shared, err = i.fill(int(fd), image)
	if err == nil {
		if i.fresh {
			i.call("mmap", base, uint64(inproc.CodeLen), unix.PROT_READ|unix.PROT_EXEC, mapPrivate|mapFixed, uint64(fd), 0)
		}
		i.call("mmap", slot, uint64(inproc.SlotLen), unix.PROT_READ|unix.PROT_WRITE, mapShared|mapFixed, uint64(fd), uint64(inproc.CodeLen))
	}
	i.call("close", uint64(fd))
	if err != nil || i.err != nil || i.off {
		if shared != nil {
			_ = unix.Munmap(shared)
		}
		return nil, errors.Join(err, i.err)
	}
	return shared, nil
}

// fill writes the image into the program's new file, and maps the shared part here.
func (i *installer) fill(fd int, image []byte) ([]byte, error) {
	own, err := procfs.TakeFD(i.tid, fd)
	if err != nil {
		return nil, err
	}
	defer unix.Close(own)
	if err := unix.Ftruncate(own, inproc.CodeLen+inproc.SlotLen); err != nil {
		return nil, err
	}
	if _, err := unix.Pwrite(own, image, 0); err != nil {
		return nil, err
	}
	return unix.Mmap(own, inproc.CodeLen, inproc.SlotLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// Ours reports whether a mapping is of our code, as the kernel has it.
func Ours(v vma.VMA) bool { return v.Name == mapping }

// WithoutOurs is a text of /proc/PID/maps without our code.
func WithoutOurs(text []byte) []byte {
	if !bytes.Contains(text, []byte(mapping)) {
		return text
	}
	var rest []byte
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, " "+mapping+"\n") {
			rest = append(rest, line...)
		}
	}
	return rest
}
