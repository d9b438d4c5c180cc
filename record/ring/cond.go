//go:build linux

// This file has the conditions under which a ring is kept.

package ring

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/format/proctext"
)

// kind is what a condition looks at.
type kind uint8

const (
	onFatal  kind = iota + 1 // a signal that ends a process
	onSignal                 // a signal that a process gets
	onExit                   // the end of the program
	onStatus                 // the end of the program with another status than 0
	onRSS                    // more resident memory than a limit
	onGrowth                 // more growth of resident memory than a limit
	onSlow                   // a call that took longer than a limit
	onErrno                  // a call that failed
	onMark                   // write(-1, "memtrace: NAME")
	onUser                   // SIGUSR2 to memtrace
)

// cond is a condition.
type cond struct {
	kind  kind
	text  string // as it was written
	signo int
	errno unix.Errno
	calls arch.Set
	limit time.Duration // of a call; of growth, the time that bytes are for
	bytes uint64
	name  string
}

// DefaultConds are the conditions if nobody names others.
const DefaultConds = "signal,exit!=0,sigusr2"

// parseConds reads a list of conditions.
func parseConds(s string) ([]cond, error) {
	var out []cond
	for _, word := range strings.Split(s, ",") {
		c, err := parseCond(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("%q: %w", word, err)
		}
		out = append(out, c)
	}
	return out, nil
}

func parseCond(s string) (c cond, err error) {
	c.text = s
	name, value, has := strings.Cut(s, "=")
	switch {
	case s == "signal":
		c.kind = onFatal
	case s == "exit":
		c.kind = onExit
	case s == "exit!=0":
		c.kind = onStatus
	case s == "sigusr2":
		c.kind = onUser
	case has && name == "signal":
		c.kind = onSignal
		value = strings.ToUpper(value)
		if c.signo, err = strconv.Atoi(value); err != nil {
			c.signo = int(unix.SignalNum("SIG" + strings.TrimPrefix(value, "SIG")))
		}
		if c.signo <= 0 || c.signo > 64 {
			return c, fmt.Errorf("there is no such signal")
		}
		return c, nil
	case has && name == "errno":
		c.kind = onErrno
		for n := unix.Errno(1); n < 4096 && c.errno == 0; n++ {
			if name := unix.ErrnoName(n); name != "" && name == value { // some numbers have none
				c.errno = n
			}
		}
		if c.errno == 0 {
			return c, fmt.Errorf("there is no such errno")
		}
	case has && name == "mark" && value != "":
		c.kind, c.name = onMark, value
	case strings.HasPrefix(s, "slow="):
		c.kind = onSlow
		set, limit, ok := strings.Cut(value, ">")
		if !ok {
			return c, fmt.Errorf("want slow=CALL>TIME")
		}
		if c.calls, err = arch.ParseSet(set); err == nil {
			c.limit, err = time.ParseDuration(limit)
		}
	case strings.HasPrefix(s, "rss>"):
		c.kind = onRSS
		c.bytes, err = parseBytes(s[len("rss>"):])
	case strings.HasPrefix(s, "rss+"):
		c.kind = onGrowth
		bytes, per, ok := strings.Cut(s[len("rss+"):], "/")
		c.limit = map[string]time.Duration{"s": time.Second, "min": time.Minute, "h": time.Hour}[per]
		if !ok || c.limit == 0 {
			return c, fmt.Errorf("want rss+SIZE/s, /min or /h")
		}
		c.bytes, err = parseBytes(bytes)
	default:
		err = fmt.Errorf("want signal, signal=NAME, exit, exit!=0, rss>SIZE, rss+SIZE/min, slow=CALL>TIME, errno=NAME, mark=NAME or sigusr2")
	}
	return c, err
}

// parseBytes reads a number of bytes with an optional K, M, G or T.
func parseBytes(s string) (uint64, error) {
	shift := 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]&^0x20); i >= 0 {
			shift, s = 10*(i+1), s[:n-1]
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 || n > 1<<62>>shift {
		return 0, fmt.Errorf("want a size such as 64M or 2G")
	}
	return n << shift, nil
}

// markPrefix is how a program names a moment: write(-1, "memtrace: NAME").
const markPrefix = "memtrace: "

// call says whether a call meets c.
func (c *cond) call(s *format.Syscall, now uint64) bool {
	switch c.kind {
	case onSlow:
		return s.Returned && s.Enter > 0 && c.calls.Has(s.Arch, s.Nr) && now-s.Enter > uint64(c.limit)
	case onErrno:
		return s.Returned && s.Ret == -int64(c.errno)
	case onMark:
		if !s.Returned || int32(s.Args[0]) != -1 || len(s.Bufs) == 0 {
			return false
		}
		sc, ok := s.Arch.Syscall(s.Nr)
		name, is := bytes.CutPrefix(s.Bufs[0].Data, []byte(markPrefix))
		return ok && sc.Name == "write" && is && string(bytes.TrimRight(name, "\x00\n")) == c.name
	}
	return false
}

// signal says whether a signal meets c.
func (c *cond) signal(no int, fatal bool) bool {
	return c.kind == onFatal && fatal || c.kind == onSignal && no == c.signo
}

// end says whether the end of a process meets c; main says that it is the program's.
func (c *cond) end(status unix.WaitStatus, main bool) bool {
	switch c.kind {
	case onFatal:
		return status.Signaled()
	case onExit:
		return main
	case onStatus:
		return main && (status.Signaled() || status.ExitStatus() != 0)
	}
	return false
}

// sized is how much memory processes had when they were last looked at.
type sized map[uint32][]sizeAt

type sizeAt struct{ time, bytes uint64 }

// sample says whether a sample of memory meets c, and notes it.
func (z sized) sample(conds []cond, m *format.MemInfo, now uint64) (met *cond) {
	for i := range m.Samples {
		s := &m.Samples[i]
		if s.Source != "status" {
			continue
		}
		kb, ok := proctext.Field(s.Data, "VmRSS").Number()
		if !ok {
			continue
		}
		was := z[s.PID]
		at := sizeAt{now, kb << 10}
		for i := range conds {
			c := &conds[i]
			switch {
			case c.kind == onRSS && at.bytes > c.bytes:
				met = c
			case c.kind == onGrowth && len(was) > 0 && grewFaster(was, at, c):
				met = c
			}
		}
		z[s.PID] = append(was, at)
		for len(z[s.PID]) > 1 && now-z[s.PID][1].time >= uint64(growthSpan) {
			z[s.PID] = z[s.PID][1:]
		}
	}
	for pid, was := range z { // it has ended
		if now-was[len(was)-1].time > uint64(time.Hour) {
			delete(z, pid)
		}
	}
	return met
}

// growthSpan is the time over which growth is looked at: less is noise.
const growthSpan = 10 * time.Second

// grewFaster says whether memory grew faster than c allows, over a growthSpan.
func grewFaster(was []sizeAt, at sizeAt, c *cond) bool {
	first := was[0]
	span := at.time - first.time
	return span >= uint64(growthSpan) && at.bytes > first.bytes &&
		float64(at.bytes-first.bytes)/float64(span) > float64(c.bytes)/float64(c.limit)
}
