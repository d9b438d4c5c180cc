package replay

import (
	"errors"
	"os"
	"syscall"
)

// beingWritten reports whether a recorder writes to a log: it has it locked.
func beingWritten(f *os.File) bool {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	}
	return errors.Is(err, syscall.EWOULDBLOCK)
}
