//go:build linux

// This file has what filters look at and answer, and the form of their instructions.

package seccomp

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// Offsets into struct seccomp_data (include/uapi/linux/seccomp.h).
const (
	nrAt   = 0
	archAt = 4
	argsAt = 16
	arg1At = argsAt + 8 // its low half
)

// Append appends an instruction as struct sock_filter.
func Append(b []byte, i unix.SockFilter) []byte {
	b = binary.LittleEndian.AppendUint16(b, i.Code)
	b = append(b, i.Jt, i.Jf)
	return binary.LittleEndian.AppendUint32(b, i.K)
}

// Tags of SECCOMP_RET_TRACE: of our filter, and of the one that stands for strict
// mode. A stop with another tag comes from a filter of the program's own. A program
// cannot know ours: a call that its own filter denies with the same tag would be let
// through.
var (
	Tag       = rand.Uint32N(1 << 16)
	StrictTag = Tag ^ 1
)
