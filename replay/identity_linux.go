package replay

import (
	"os"
	"syscall"
	"time"

	"memtrace/format/vma"
)

// openQuietly are flags with which nothing is waited for, and no terminal becomes the
// process's own.
const openQuietly = syscall.O_NONBLOCK | syscall.O_NOCTTY

// changedSince says whether a file's contents may have changed after start. The
// time of a change of the inode cannot be set, as that of the contents can.
func changedSince(fi os.FileInfo, start time.Time) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || time.Unix(st.Ctim.Unix()).After(start)
}

// identity is a file's device and inode as /proc/PID/maps shows them. The
// device number is taken apart as <sys/sysmacros.h> does.
func identity(fi os.FileInfo) (dev vma.Dev, inode uint64, ok bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return dev, 0, false
	}
	d := uint64(st.Dev)
	dev.Major = uint32(d>>8&0xfff | d>>32&^0xfff)
	dev.Minor = uint32(d&0xff | d>>12&^0xff)
	return dev, uint64(st.Ino), true
}
