package analyze_test

import (
	"encoding/binary"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/arch"
	. "memtrace/replay/replaytest"
)

// opened is an open of a path, which became a descriptor.
func opened(b *Builder, path string, fd int64) {
	nr, _ := arch.X86_64.Number("openat")
	b.Event(1, &format.Syscall{
		Arch: arch.X86_64, Nr: nr, Args: [6]uint64{0xffffff9c, 0x1000}, Ret: fd, Returned: true, Enter: b.Now() + 5000,
		Bufs: []format.Buf{{Arg: 1, Addr: 0x1000, Data: []byte(path)}},
	})
}

func TestFailureNamesTheFile(t *testing.T) {
	b := began(t)
	opened(b, "/mnt/full", 3)
	for range 3 {
		b.Call(1, "write", -28, []uint64{3, 0x2000, 10})
	}
	exited(b, 0)
	findsFirst(t, b, "FAILED: write failed 3 times with ENOSPC (No space left on device), first at step * (/mnt/full).")
}

func TestFailureOfClosedDescriptor(t *testing.T) {
	b := began(t)
	opened(b, "/etc/hosts", 3)
	step := b.Call(1, "close", 0, []uint64{3})
	if step != 9 {
		t.Fatal(step)
	}
	b.Call(1, "read", -9, []uint64{3, 0x2000, 10})
	exited(b, 0)
	findsFirst(t, b, "FAILED: read failed 1 time with EBADF (Bad file descriptor) at step 10; descriptor 3 (/etc/hosts) was closed at step 9.")
}

// TestSocketError: the error that a program reads of a socket is that of its connect.
func TestSocketError(t *testing.T) {
	b := began(t)
	b.Call(1, "connect", -115, []uint64{3, 0x2000, 16})
	nr, _ := arch.X86_64.Number("getsockopt")
	b.Event(1, &format.Syscall{
		Arch: arch.X86_64, Nr: nr, Args: [6]uint64{3, 1, 4, 0x3000, 0x3010}, Returned: true, Enter: b.Now() + 5000,
		Bufs: []format.Buf{{Arg: 3, Addr: 0x3000, Out: true, Data: binary.LittleEndian.AppendUint32(nil, 111)}},
	})
	exited(b, 7<<8)
	findsFirst(t, b, "FAILED: connect failed 1 time with ECONNREFUSED (Connection refused) at step 9")
}

// TestLastFailureIsNear: a call that failed long before the end is not named.
func TestLastFailureIsNear(t *testing.T) {
	b := began(t)
	failing(b, "openat", "/root/.curlrc", 2)
	for range 60 {
		b.Call(1, "getpid", 100, nil)
	}
	b.Wait(time.Second)
	exited(b, 7<<8)
	if text := found(t, b)[0].Text; text != "STATUS: prog (process 100) exited with 7." {
		t.Error(text)
	}
}

// TestSlowBesideMemtrace: a call during which memtrace read memory, and several short ones, are no
// finding.
func TestSlowBesideMemtrace(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(*Builder)
		want  string
	}{
		"sample": {func(b *Builder) {
			b.Wait(time.Second / 2)
			b.Event(0, &format.MemInfo{})
			b.Wait(time.Second / 2)
			took(b, 1, "newfstatat", time.Second, 0)
		}, "Nothing went wrong"},
		"several": {func(b *Builder) {
			for range 50 {
				b.Wait(6 * time.Millisecond)
				took(b, 1, "mmap", 6*time.Millisecond, 0x1000)
			}
		}, "Nothing went wrong"},
		"slow": {func(b *Builder) {
			b.Wait(time.Second)
			took(b, 1, "newfstatat", time.Second, 0)
		}, "SLOW: newfstatat took 1.00 s"},
		"disk": {func(b *Builder) {
			for range 100 {
				b.Wait(6 * time.Millisecond)
				b.Event(0, &format.MemInfo{})
				took(b, 1, "fsync", 6*time.Millisecond, 0)
			}
		}, "SLOW: fsync took "},
	} {
		t.Run(name, func(t *testing.T) {
			b := began(t)
			c.plant(b)
			exited(b, 0)
			findsFirst(t, b, c.want)
		})
	}
}

func TestKilledWhileItWaited(t *testing.T) {
	b := began(t)
	opened(b, "pipe:[7]", 3)
	b.Wait(4 * time.Second)
	took(b, 1, "read", 4*time.Second, erestartsys, 3, 0x2000, 10)
	b.Event(1, &format.Signal{Signo: 15, Fatal: true})
	exited(b, 15)
	findsFirst(t, b, "KILLED: prog (process 100) was killed by SIGTERM after 4.00 s; it had waited 4.00 s in read of *pipe:[7].")
}

// TestSearchIsNoFailure: a name that was in a later directory was looked for, and found.
func TestSearchIsNoFailure(t *testing.T) {
	b := began(t)
	failing(b, "openat", "/root/bin/tool", 13)
	failing(b, "openat", "/usr/local/tool", 2)
	opened(b, "/opt/bin/tool", 3)
	exited(b, 0)
	findsFirst(t, b, "Nothing went wrong")

	b = began(t)
	failing(b, "openat", "/root/bin/tool", 13)
	opened(b, "/opt/bin/other", 3)
	exited(b, 0)
	findsFirst(t, b, `FAILED: openat of "/root/bin/tool" failed 1 time with EACCES`)
}
