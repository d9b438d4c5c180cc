//go:build linux

package record

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
)

func header() *format.Header { return &format.Header{Arch: arch.X86_64, Start: time.Now()} }

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// TestLogFile: a log is a new file that nobody else reads, and one that was there before
// is kept under another name.
func TestLogFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	for i := range 3 {
		l, err := openLog(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.WriteString(strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		st, err := l.Stat()
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		// Another memtrace sees that it is being written.
		other, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(other.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("the lock: %v", err)
		}
		other.Close()
		if got := l.finish(77); got != name {
			t.Errorf("it is called %s", got)
		}
		if _, err := l.Write([]byte("x")); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a write after the end: %v", err)
		}
	}
	for file, want := range map[string]string{name: "2", name + ".old": "1"} {
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", file, b, err)
		}
	}
}

// TestLogFilePID: %p is the pid of the program, which is known only later.
func TestLogFilePID(t *testing.T) {
	dir := t.TempDir()
	l, err := openLog(filepath.Join(dir, "a.%p.b.%p"))
	if err != nil {
		t.Fatal(err)
	}
	begun := l.name
	if strings.Contains(begun, "%p") || !exists(begun) {
		t.Errorf("at first it is called %s", begun)
	}
	want := filepath.Join(dir, "a.4711.b.4711")
	if got := l.finish(4711); got != want || !exists(want) || exists(begun) {
		t.Errorf("it is called %s", got)
	}
	l, err = openLog(filepath.Join(dir, "c.%p"))
	if err != nil {
		t.Fatal(err)
	}
	l.remove()
	if exists(l.name) || exists(filepath.Join(dir, "c.%p")) {
		t.Error("it has not been removed")
	}
	l, err = openLog(filepath.Join(dir, "d.%p"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d.1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := l.finish(1); got != l.name || !exists(got) {
		t.Errorf("where it cannot be renamed it is called %s", got)
	}
}

// TestLogFileOther: what is no file is written to as it is, and never removed.
func TestLogFileOther(t *testing.T) {
	name := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := openLog(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.WriteString("log"); err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	if n, err := r.Read(b[:]); err != nil || string(b[:n]) != "log" {
		t.Errorf("%q, %v", b[:n], err)
	}
	l.remove()
	if !exists(name) || exists(name+".old") {
		t.Error("the FIFO has been moved or removed")
	}
	if _, err := openLog(filepath.Join(t.TempDir(), "none", "log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

// TestSessionDiscard: where nothing could be recorded there is no log, and the session
// cannot kill anybody.
func TestSessionDiscard(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	s, err := Open(name, header())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); !errors.Is(err, ErrNotRecording) {
		t.Errorf("kill: %v", err)
	}
	if !exists(name) || s.Header() == nil || s.State().Step != format.NoStep {
		t.Errorf("state %+v", s.State())
	}
	s.Discard()
	if exists(name) {
		t.Error("the log is still there")
	}
	s, err = Open(name, header())
	if err != nil {
		t.Fatal(err)
	}
	j := &Job{Attach: []int{1 << 22}} // above every pid
	s.Prepare(j)
	if err := s.Kill(); !errors.Is(err, ErrNotRecording) {
		t.Errorf("kill: %v", err)
	}
	if out, err := s.Record(j); err == nil || !strings.Contains(err.Error(), "no such process") {
		t.Errorf("%+v, %v", out, err)
	}
	if exists(name) {
		t.Error("the log is still there")
	}
	if _, err := Open(t.TempDir()+"/none/log", header()); err == nil {
		t.Error("no error")
	}
}

// TestPrepare: a session listens to what its recorder tells, and passes it on.
func TestPrepare(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "log"), header())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Discard()
	var pids, sigs []int
	s.Prepare(&Job{Options: Options{
		Started: func(pid int) { pids = append(pids, pid) },
		Stopped: func(sig int) { sigs = append(sigs, sig) },
	}})
	s.rec.opts.Started(5)
	s.rec.opts.Stopped(20)
	s.rec.opts.Delivered(int(unix.SIGTERM), nil)
	if !s.hasGot(unix.SIGTERM, time.Now()) || s.hasGot(unix.SIGINT, time.Now()) {
		t.Error("it does not know which signal the program has got")
	}
	if len(pids) != 1 || pids[0] != 5 || len(sigs) != 1 || sigs[0] != 20 || s.pid.Load() != 5 || !s.job.stopped {
		t.Errorf("pids %v, signals %v, pid %d", pids, sigs, s.pid.Load())
	}
	s.rec.opts.Stopped(0)
	if s.job.stopped {
		t.Error("the program goes on, and the session does not know")
	}
	s.Prepare(&Job{})
	s.rec.opts.Started(6) // nobody else wants to know
	s.rec.opts.Stopped(0)
	if s.pid.Load() != 6 {
		t.Errorf("pid %d", s.pid.Load())
	}
}

// TestEndAs: a session's status is that of its program.
func TestEndAs(t *testing.T) {
	var o Outcome
	if _, ok := o.EndAs(); ok {
		t.Error("a program that has not ended has a status")
	}
	o.Ended, o.Status = true, unix.WaitStatus(7<<8)
	if st, ok := o.EndAs(); !ok || st != 7 {
		t.Errorf("status %d, %v", st, ok)
	}
}

// TestJobControl stops processes that are this test: only when both have been told to
// stop does one stop itself, and only once.
func TestJobControl(t *testing.T) {
	for script, stops := range map[string]int{
		"":     0,
		"s":    0, // memtrace was sent a stop: the program handles the signal
		"p":    0, // the program alone was stopped
		"sp":   1,
		"ps":   1,
		"scp":  1, // it goes on, and is stopped later
		"pcs":  0,
		"spcp": 1,
		"spsp": 2,
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestJobControlHelper$")
		cmd.Env = append(os.Environ(), "MEMTRACE_JOB="+script+".", "GORACE=atexit_sleep_ms=0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for {
			var ws unix.WaitStatus
			if _, err := unix.Wait4(cmd.Process.Pid, &ws, unix.WUNTRACED, nil); err == unix.EINTR {
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			if !ws.Stopped() {
				if ws.ExitStatus() != 0 {
					t.Errorf("%q: %v", script, ws)
				}
				break
			}
			n++
			_ = unix.Kill(cmd.Process.Pid, unix.SIGCONT)
		}
		if n != stops {
			t.Errorf("%q: it has stopped %d times, not %d", script, n, stops)
		}
	}
}

// TestJobControlHelper is the process that TestJobControl starts.
func TestJobControlHelper(t *testing.T) {
	script, is := strings.CutSuffix(os.Getenv("MEMTRACE_JOB"), ".")
	if !is {
		return
	}
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, syscall.SIGCONT)
	var j jobControl
	for _, c := range script {
		told, stopped := j.told, j.stopped
		switch c {
		case 's':
			j.self()
		case 'p':
			j.program(int(unix.SIGTSTP))
		case 'c':
			j.program(0)
		}
		if c == 's' && stopped || c == 'p' && told {
			<-cont // it may take a moment until the stop reaches us
		}
	}
}

// TestStandardOutput: with - the log goes to standard output, which is not closed.
func TestStandardOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	old := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = old }()
	for range 2 {
		l, err := openLog("-")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.WriteString("log"); err != nil {
			t.Fatal(err)
		}
		if got := l.finish(5); got != "-" {
			t.Errorf("it is called %s", got)
		}
	}
	l, err := openLog("-")
	if err != nil {
		t.Fatal(err)
	}
	l.remove()
	if _, err := w.WriteString("."); err != nil {
		t.Errorf("standard output has been closed: %v", err)
	}
	w.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "loglog." {
		t.Errorf("%q, %v", b, err)
	}
}

// TestDefaultLog: the name that nobody chose is used only where nothing, or a log of our
// own, has it; and not while another memtrace writes it.
func TestDefaultLog(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo(DefaultLog, 0o666); err != nil {
		t.Fatal(err)
	}
	if l, err := openLog(DefaultLog); err == nil {
		l.remove()
		t.Error("a FIFO is written to")
	}
	if err := errors.Join(os.Remove(DefaultLog), os.Symlink("victim", DefaultLog), os.WriteFile("victim", []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if l, err := openLog(DefaultLog); err == nil {
		l.remove()
		t.Error("a symbolic link is followed")
	}
	if err := os.Remove(DefaultLog); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{DefaultLog, "chosen"} {
		first, err := openLog(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openLog(name); !errors.Is(err, ErrBusy) {
			t.Errorf("%s is written twice at once: %v", name, err)
		}
		first.finish(0)
		again, err := openLog(name)
		if err != nil {
			t.Fatalf("%s, which nobody writes any more: %v", name, err)
		}
		again.finish(0)
		if _, err := os.Stat(name + ".old"); err != nil {
			t.Error(err)
		}
	}
}

// TestGarbage: of much that is used, garbage is collected sooner than of little.
func TestGarbage(t *testing.T) {
	if err := prepare(fewCollections); err != nil {
		t.Fatal(err)
	}
	used := make([]byte, 256<<20)
	percent := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) { // the bound is set after a collection
		runtime.GC()
		metrics.Read(percent)
		if percent[0].Value.Uint64() == garbageLeast {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d percent of %d bytes", percent[0].Value.Uint64(), len(used))
		}
	}
	runtime.KeepAlive(used)
}
