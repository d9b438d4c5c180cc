package procfs

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ends knows that the other end is gone and that a time is over, of whoever waits.
func TestEnds(t *testing.T) {
	self := unix.Gettid()
	pair := func() (a, b int) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fds[0]) })
		return fds[0], fds[1]
	}
	want := func(what string, fd int, reads bool, waited time.Duration, ends bool) {
		t.Helper()
		if own, err := TakeFD(self, fd); err != nil {
			t.Skip(err)
		} else {
			unix.Close(own)
		}
		if got := Ends(self, fd, reads, waited); got != ends {
			t.Errorf("%s (reads: %t): %t", what, reads, got)
		}
	}
	a, b := pair()
	want("nothing has come", a, true, time.Hour, false)
	want("nothing was taken", a, false, time.Hour, false)
	tv := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(a, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	want("there is time", a, true, time.Second/2, false)
	want("no time is left", a, true, time.Second, true)
	want("only reads have a limit", a, false, time.Second, false)
	if _, err := unix.Write(b, []byte("some")); err != nil {
		t.Fatal(err)
	}
	unix.Close(b)
	want("gone, but bytes are left", a, true, 0, false)
	want("gone", a, false, 0, true)
	if _, err := unix.Read(a, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	want("gone", a, true, 0, true)

	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[1])
	want("a pipe with a reader", p[1], false, 0, false)
	unix.Close(p[0])
	want("a pipe without one", p[1], false, 0, true)
}
