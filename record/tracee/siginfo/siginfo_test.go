//go:build linux

package siginfo

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// What i386 has of a siginfo is what x86_64 has of it, for each kind.
func TestTo32(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGSEGV, unix.SIGCHLD, unix.SIGPOLL, unix.SIGSYS, unix.SIGUSR1} {
		for _, code := range []int32{1, -1, -5, 0x80} {
			var narrow [128]byte
			binary.LittleEndian.PutUint32(narrow[0:], uint32(sig))
			binary.LittleEndian.PutUint32(narrow[Code:], uint32(code))
			for _, f := range fields(narrow[:]) {
				binary.LittleEndian.PutUint32(narrow[f[1]:], 0x01010101*uint32(f[1]))
			}
			wide := To64(&narrow)
			if again := To32(&wide); again != narrow {
				t.Errorf("%v, code %d: % x, want % x", sig, code, again, narrow)
			}
			if wide == narrow {
				t.Errorf("%v, code %d: the two are the same", sig, code)
			}
		}
	}
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(unix.SIGCHLD))
	binary.LittleEndian.PutUint32(info[Code:], cldTrapped)
	binary.LittleEndian.PutUint32(info[Status:], 19)
	if narrow := To32(&info); binary.LittleEndian.Uint32(narrow[Status32:]) != 19 {
		t.Errorf("% x", narrow)
	}
}

func TestCookie(t *testing.T) {
	var info [128]byte
	binary.LittleEndian.PutUint32(info[0:], uint32(unix.SIGCHLD))
	if c := CookieOf(&info); c != 0 {
		t.Errorf("a signal of the program's is %d", c)
	}
	PutCookie(&info, CookieExec, 77, 5)
	if c := CookieOf(&info); c != CookieExec || CodeOf(&info) != siQueue {
		t.Errorf("cookie %d, code %d", c, CodeOf(&info))
	}
	info[Value]++
	if c := CookieOf(&info); c != 0 {
		t.Errorf("a signal with another mark is %d", c)
	}
}

// A cookie that went through a signalfd is read from there, and what the program sees
// afterwards is the siginfo.
func TestSignalFD(t *testing.T) {
	var sent [128]byte
	binary.LittleEndian.PutUint32(sent[0:], uint32(unix.SIGCHLD))
	PutCookie(&sent, CookieChild, 1234, 0x85)
	r := make([]byte, SignalFDSize) // fs/signalfd.c, signalfd_copyinfo
	copy(r[0:4], sent[0:4])
	copy(r[fdCode:], sent[Code:Code+4])
	copy(r[fdPID:], sent[PID:PID+4])
	copy(r[fdUID:], sent[UID:UID+4])
	copy(r[fdValue:], sent[Value:Value+4])
	copy(r[fdValue+4:], sent[Value:Value+8])
	info := FromSignalFD(r)
	if info != sent {
		t.Fatalf("% x, want % x", info, sent)
	}
	code, status := ChildCode(0x85, true)
	binary.LittleEndian.PutUint32(info[Code:], code)
	binary.LittleEndian.PutUint32(info[Status:], status)
	ToSignalFD(r, &info)
	for at, want := range map[int]uint32{fdCode: cldTrapped, fdPID: 1234, fdStatus: 0x85, fdValue: 0, fdValue + 4: 0, fdValue + 8: 0} {
		if got := binary.LittleEndian.Uint32(r[at:]); got != want {
			t.Errorf("at %d: %#x, want %#x", at, got, want)
		}
	}
}

func TestChildCode(t *testing.T) {
	for _, c := range []struct {
		status      uint32
		stop        bool
		code, value uint32
	}{
		{7 << 8, false, cldExited, 7}, {9, false, cldKilled, 9}, {0x80 | 11, false, cldDumped, 11}, {19, true, cldTrapped, 19},
	} {
		if code, value := ChildCode(c.status, c.stop); code != c.code || value != c.value {
			t.Errorf("status %#x: %d %d", c.status, code, value)
		}
	}
}
