package call

import (
	"encoding/binary"
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// TestUsedFDs: the names that are asked for when a call begins are those that its line
// shows, in arguments and in memory, and they are right from there on.
func TestUsedFDs(t *testing.T) {
	nr := func(name string) uint32 {
		n, _ := arch.X86_64.Number(name)
		return n
	}
	poll := binary.LittleEndian.AppendUint64(nil, 7|1<<32)
	poll = binary.LittleEndian.AppendUint64(poll, 9|1<<32)
	for _, c := range []struct {
		call Call
		used []int32
		line string
	}{
		{Call{Nr: nr("dup2"), Args: [6]uint64{4, 8}, Ret: 8}, []int32{4, 8}, "dup2(4</4>, 8</8>) = 8</4>"},
		{Call{Nr: nr("close"), Args: [6]uint64{5}}, []int32{5}, "close(5</5>) = 0"},
		{Call{Nr: nr("openat"), Args: [6]uint64{^uint64(99), 0x1000}, Ret: 3}, nil, "openat(AT_FDCWD, 0x1000, O_RDONLY) = 3"},
		{Call{Nr: nr("poll"), Args: [6]uint64{0x1000, 2, 0}, Bufs: []Buf{{Arg: 0, Addr: 0x1000, Data: poll}}}, []int32{7, 9},
			"poll([{fd=7</7>, events=POLLIN}, {fd=9</9>, events=POLLIN}], 2, 0) = 0 (Timeout)"},
	} {
		c.call.Arch = arch.X86_64
		var used []int32
		c.call.UsedFDs(func(fd int32) { used = append(used, fd) })
		if !slices.Equal(used, c.used) {
			t.Errorf("%s uses %v, not %v", c.line, used, c.used)
		}
		var f FDs
		for _, fd := range used {
			f.Set(fd, "/stale", true)
			c.call.Bufs = append(c.call.Bufs, Buf{Arg: BufFDName, Addr: addr.Addr(fd), Data: []byte("/" + string(rune('0'+fd)))})
		}
		c.call.Returned = true
		c.call.FD = func(fd int32) string { n, _ := f.Name(fd); return n }
		if got := string(c.call.Append(nil)); got != c.line {
			t.Errorf("%s, not %s", got, c.line)
		}
		f.Learn(&c.call)
		for _, fd := range used {
			if n, _ := f.Name(fd); n != "/"+string(rune('0'+fd)) {
				t.Errorf("%s: %d is %q afterwards", c.line, fd, n)
			}
		}
	}
	f := FDs{}
	f.Set(6, "/closed", false)
	f.Learn(&Call{Bufs: []Buf{{Arg: BufFDName, Addr: 6}}})
	if n, ok := f.Name(6); ok {
		t.Errorf("a descriptor that was not open is called %q", n)
	}
}
