//go:build linux

// This file has what a program reads of our tracees in /proc be what it is without us: their
// state, and who traces them.

package tracee

import (
	"bytes"
	"strconv"
	"strings"

	"memtrace/format/addr"
	"memtrace/record/ptrace"
)

// maxStatus is how long what is read of /proc/PID/status at once may be.
const maxStatus = 1 << 14

// correctStatus looks for us in what a thread has read, and puts it right.
func (g *Group) correctStatus(t *Thread, c *Call) {
	if !t.Proc.readsProc || c.Ret <= 0 || c.Ret > maxStatus || !isCall(c, "read") && !isCall(c, "pread64") {
		return
	}
	parts := bytes.Split(g.fdNameOf(t, int32(c.Args[0])), []byte("/"))
	if len(parts) < 4 || string(parts[1]) != "proc" {
		return
	}
	tid, err := strconv.Atoi(string(parts[2])) // "", proc, the pid, maybe task and the tid, the file
	if len(parts) == 6 && err == nil {
		tid, err = strconv.Atoi(string(parts[4]))
	}
	of := g.threads[tid]
	if err != nil || of == nil {
		return
	}
	text := make([]byte, c.Ret)
	if g.ReadMem(t, text, addr.Addr(c.Args[1])) != len(text) {
		return
	}
	var now []byte
	switch string(parts[len(parts)-1]) {
	case "status":
		tracer := 0
		if of.traced != nil {
			tracer = of.traced.by.TID
		}
		same := isCall(c, "pread64") // it goes on at an offset that the program computes of the length
		now = replaceField(text, "TracerPid:\t", strconv.Itoa(tracer), same)
		if bytes.Contains(now, []byte("State:\tt")) {
			now = replaceField(now, "State:\t", g.stateOf(of), same)
		}
	case "stat":
		now = bytes.Clone(text)
		if i := bytes.LastIndex(now, []byte(") t ")); i >= 0 {
			now[i+2] = g.stateOf(of)[0]
		}
	default:
		return
	}
	if bytes.Equal(now, text) || uint64(len(now)) > c.Args[2] || !g.k.WriteMem(t.TID, now, addr.Addr(c.Args[1])) {
		return
	}
	var regs ptrace.Regs
	if len(now) != len(text) && g.k.GetRegs(t.TID, &regs) == nil {
		c.Ret = int64(len(now))
		regs[ptrace.RegRAX] = uint64(c.Ret)
		_ = g.k.SetRegs(t.TID, &regs)
	}
}

// stateOf is the state, as /proc/PID/status has it, of a thread that stands in a stop of ours.
func (g *Group) stateOf(t *Thread) string {
	if t.state != Listening && t.state != Held {
		g.Reap() // job control may have stopped it just now
	}
	switch stop, waits := g.facts.of(t.TID); {
	case waits && stop.Kind == ptrace.Group && t.traced == nil:
		return "T (stopped)"
	case t.traced != nil && (t.state == Held || t.state == Listening):
		return "t (tracing stop)"
	case t.state == Listening:
		return "T (stopped)"
	}
	return "R (running)"
}

// replaceField returns a text in which a line that begins with name goes on with value. With
// same the line stays as long as it is: spaces fill it.
func replaceField(text []byte, name, value string, same bool) []byte {
	i := bytes.Index(text, []byte(name))
	if i < 0 || i > 0 && text[i-1] != '\n' {
		return text
	}
	i += len(name)
	n := bytes.IndexByte(text[i:], '\n')
	if n < 0 || same && len(value) > n {
		return text
	}
	if same {
		value += strings.Repeat(" ", n-len(value))
	}
	return append(append(bytes.Clone(text[:i]), value...), text[i+n:]...)
}
