//go:build linux

// This file has signals that wait to be delivered.

package traceetest

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

const siTkill = -6

// queued is a signal that waits to be delivered.
type queued struct {
	no   int
	code int32
}

func (q queued) info() (b [128]byte) {
	binary.LittleEndian.PutUint32(b[:], uint32(q.no))
	binary.LittleEndian.PutUint32(b[8:], uint32(q.code))
	return b
}

type signals []queued

func (s signals) set() (mask uint64) {
	for _, q := range s {
		mask |= bit(q.no)
	}
	return mask
}

// take takes out the first signal that is not blocked.
func (s *signals) take(mask uint64) (q queued, ok bool) {
	for i, q := range *s {
		if mask&bit(q.no) == 0 {
			*s = slices.Delete(*s, i, i+1)
			return q, true
		}
	}
	return q, false
}

func isStop(sig int) bool {
	switch unix.Signal(sig) {
	case unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return true
	}
	return false
}
