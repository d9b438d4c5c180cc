package gdbstub

import (
	"context"
	"fmt"

	"memtrace/format/addr"
)

// gdbTrap is SIGTRAP.
const gdbTrap = 5

// gdbSignals are the numbers that gdb has for Linux's signals, where they differ.
var gdbSignals = map[int]int{
	7: 10, 10: 30, 12: 31, 16: 143, 17: 20, 18: 19, 19: 17, 20: 18, 23: 16, 29: 23, 30: 32, 31: 12,
}

// gdbSignal is what gdb calls a signal of Linux.
func gdbSignal(n int) int {
	switch g, ok := gdbSignals[n]; {
	case ok:
		return g
	case n == 32:
		return 77
	case n > 32 && n < 64:
		return n + 12
	case n == 64:
		return 78
	}
	return n
}

// stopReason is why gdb stands where it does.
type stopReason struct {
	signal int    // gdb's number
	more   string // of the packet: "replaylog:end;"
}

// at a watchpoint.
func watched(a addr.Addr) stopReason {
	return stopReason{gdbTrap, fmt.Sprintf("watch:%x;", uint64(a))}
}

// reason is ?: the packet that tells of a stop. gdb takes the thread of a stop for chosen, and
// does not choose it again.
func (s *Session) reason(context.Context, string) (string, error) {
	if !s.known {
		return "W00", nil
	}
	s.chosen = s.id(s.pid)
	if th := s.now.front(s.running); th != nil {
		s.general, s.running, s.chosen = th.TID, th.TID, s.id(th.TID)
	}
	return fmt.Sprintf("T%02x%sthread:%s;", s.stop.signal, s.stop.more, s.chosen), nil
}
