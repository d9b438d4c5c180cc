//go:build linux

// This file marks signals that are memtrace's own.

package siginfo

import (
	"encoding/binary"
	"math/rand/v2"
)

// Cookie is what a signal of ours is. The signal carries it as its value.
type Cookie uint32

// The signals of ours.
const (
	CookieChild  Cookie = iota + 1 // SIGCHLD: the state of a tracee has changed
	CookieEnd                      // SIGCHLD: a tracee has ended
	CookieStop                     // SIGSTOP of PTRACE_ATTACH
	CookieExec                     // SIGTRAP of an exec
	CookieSignal                   // a signal that a tracer sent its tracee
	CookieUser                     // one that kill(2) sent, put off and sent again
	CookieThread                   // one that tgkill(2) sent
)

// ownMark tells our signals from the program's: it cannot know it.
var ownMark = rand.Uint32()

const siQueue = -1

// PutCookie makes a siginfo one of ours. pid and status are what the program is to see.
func PutCookie(info *[128]byte, c Cookie, pid int, status uint32) {
	minus := int32(siQueue)
	binary.LittleEndian.PutUint32(info[Code:], uint32(minus))
	binary.LittleEndian.PutUint32(info[PID:], uint32(pid))
	binary.LittleEndian.PutUint32(info[UID:], status)
	binary.LittleEndian.PutUint32(info[Value:], ownMark)
	binary.LittleEndian.PutUint32(info[Value+4:], uint32(c))
}

// CookieOf says which of our signals a siginfo is of, 0 for none.
func CookieOf(info *[128]byte) Cookie {
	le := binary.LittleEndian
	if int32(le.Uint32(info[Code:])) != siQueue || le.Uint32(info[Value:]) != ownMark {
		return 0
	}
	return Cookie(le.Uint32(info[Value+4:]))
}
