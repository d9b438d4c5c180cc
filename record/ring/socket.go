//go:build linux

// This file lets the owner of a recorder ask for its ring from outside, over a socket.

package ring

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format/proctext"
)

// What can be asked for.
const (
	AskStatus = "status"
	AskDump   = "dump"
)

// answerTime is how long whoever asks may take to say what.
const answerTime = 5 * time.Second

// socketDir is the folder of the sockets of this user's recorders. Nobody else can
// get into it.
func socketDir() (string, error) {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("memtrace-%d", os.Geteuid()))
	} else {
		dir = filepath.Join(dir, "memtrace")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || !st.IsDir() || int(sys.Uid) != os.Geteuid() || st.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s is not a folder of this user alone", dir)
	}
	return dir, nil
}

func socketName(dir string, pid int) string { return filepath.Join(dir, strconv.Itoa(pid)+".sock") }

// Listen serves those who ask until stop is called. dump has the ring kept, and returns when it is.
func (r *Ring) Listen(dump func() (Dump, error)) (stop func(), err error) {
	dir, err := socketDir()
	if err != nil {
		return nil, err
	}
	name := socketName(dir, os.Getpid())
	_ = os.Remove(name) // of a recorder that had our pid and was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			r.answer(c, dump)
		}
	}()
	return func() { _ = l.Close() }, nil
}

// answer serves one who asks. Only this user, and root, may.
func (r *Ring) answer(c *net.UnixConn, dump func() (Dump, error)) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(answerTime))
	if uid, err := peer(c); err != nil || uid != os.Geteuid() && uid != 0 {
		return
	}
	word, err := bufio.NewReader(io.LimitReader(c, 64)).ReadString('\n')
	if err != nil {
		return
	}
	var text string
	switch strings.TrimSpace(word) {
	case AskStatus:
		text = r.Status()
	case AskDump:
		var d Dump
		if d, err = dump(); err == nil {
			err = d.Err
		}
		if err == nil {
			text, err = filepath.Abs(d.Name)
			text += "\n"
		}
	default:
		err = errors.New("it does not know this word")
	}
	_ = c.SetDeadline(time.Now().Add(answerTime))
	if err != nil {
		fmt.Fprintf(c, "error\n%v\n", err)
		return
	}
	fmt.Fprintf(c, "ok\n%s", text)
}

// statusNumber is a number in the status of a process or thread, 0 if it has none.
func statusNumber(pid int, key string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	n, _ := proctext.Field(status, key).Number()
	return int(n)
}

func peer(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, cerr); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// Request asks the recorder with this pid, or the one that traces the process with
// this pid, and returns what it answers.
func Request(pid int, word string) (string, error) {
	dir, err := socketDir()
	if err != nil {
		return "", err
	}
	c, err := net.Dial("unix", socketName(dir, pid))
	if err != nil {
		if _, serr := os.Stat(fmt.Sprintf("/proc/%d", pid)); serr != nil {
			return "", fmt.Errorf("there is no process %d", pid)
		}
		// The tracer is a thread of the recorder.
		tracer := statusNumber(pid, "TracerPid")
		c, err = net.Dial("unix", socketName(dir, statusNumber(tracer, "Tgid")))
	}
	if err != nil {
		return "", fmt.Errorf("no recorder of this user with a ring is, or traces, process %d", pid)
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, word); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	how, text, _ := strings.Cut(string(b), "\n")
	switch how {
	case "ok":
		return text, nil
	case "error":
		return "", errors.New(strings.TrimSpace(text))
	}
	return "", fmt.Errorf("the recorder of process %d did not answer", pid)
}
