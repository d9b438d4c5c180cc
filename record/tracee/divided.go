//go:build linux

// This file says which calls may come back with a part of what they were to do, and
// has what is left of one.

package tracee

import "memtrace/record/ptrace"

// remainder is what is left of a call, and made in its place.
type remainder struct {
	regs  ptrace.Regs // as the program made the call, behind its instruction
	i386  bool
	done  uint64 // bytes, or what the call has returned
	until uint64 // when it times out, by the Group's clock; 0: parts are moved
	parts []part // the first is under way
	began uint64 // when it was, by the Group's clock
	nr    uint32 // of the call that does one part
	size  int    // its argument that is the length of a part, or the timeout; the one before is the address
	fd    uint64 // its first argument, and the fourth, if it is another call than the program's
	flags uint64
	flow  flow
}

// part is memory, or for sendfile only a number of bytes.
type part struct{ at, n uint64 }

// skip leaves out the first n bytes. It reports whether there are others.
func (r *remainder) skip(n uint64) bool {
	for len(r.parts) > 0 {
		p := &r.parts[0]
		if n < p.n {
			p.at, p.n = p.at+n, p.n-n
			return true
		}
		n -= p.n
		r.parts = r.parts[1:]
	}
	return false
}

// divided is a call that moves bytes and may come back with a part of them. A call that
// has many buffers is finished by one call a buffer.
type divided struct {
	flow   flow
	size   int    // the argument that is the length, 0 where there are many buffers
	flags  int    // the argument that has MSG_DONTWAIT and its like, 0 for none
	header bool   // its buffers are in a struct msghdr
	by     string // the call that moves one buffer
}

// flow is what the descriptor of such a call has to be, for nothing else but an
// interrupt to have it come back with a part.
type flow uint8

const (
	flowOut    flow = iota // a pipe, socket or terminal that is written to and waits
	flowSocket             // a socket that is written to: to a pipe, sendfile writes what it has room for
	flowAll                // a socket that is read with MSG_WAITALL
	flowNone               // there is no descriptor
	flowDevice             // /dev/zero or a device of random bytes that is read
)

var dividedCalls = map[string]divided{
	"write": {size: 2, by: "write"}, "sendto": {size: 2, flags: 3, by: "sendto"}, "recvfrom": {flow: flowAll, size: 2, flags: 3, by: "recvfrom"},
	"sendfile": {flow: flowSocket, size: 3, by: "sendfile"}, "sendfile64": {flow: flowSocket, size: 3, by: "sendfile64"}, "getrandom": {flow: flowNone, size: 1, by: "getrandom"},
	"read": {flow: flowDevice, size: 2, by: "read"}, "readv": {flow: flowDevice, by: "read"}, "pread64": {flow: flowDevice, size: 2, by: "pread64"},
	"writev": {by: "write"}, "sendmsg": {flags: 2, header: true, by: "sendto"}, "recvmsg": {flow: flowAll, flags: 2, header: true, by: "recvfrom"},
}

// maxParts is how many buffers of a call are seen to (UIO_MAXIOV, include/uapi/linux/uio.h).
const maxParts = 1024

// timedCalls are those that say EINTR however they are interrupted, with the argument that
// is a timeout in milliseconds. Made again as they were, they would wait for too long.
var timedCalls = map[string]int{"epoll_wait": 3, "epoll_pwait": 3}
