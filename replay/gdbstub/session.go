package gdbstub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// Options are the choices of a session.
type Options struct {
	PID   uint32       // of the process that gdb is shown, or is shown first, 0: the log's first
	All   bool         // gdb is shown all processes of the log
	At    *format.Step // where to begin; nil: at the signal that killed it, else at the last stop
	Stale bool         // give bytes of stacks too that may be old
	Once  bool         // gdb cannot connect a second time, to be shown another process
}

// Session is one gdb at one process of a log, or at all of them, as long as it is connected.
type Session struct {
	*inferior        // that g and m are about. It is there at the step
	inferiors        []*inferior
	time             format.Step // where all of them stand
	lldb             bool        // the debugger is lldb: it takes x, for what is not known, for a value
	chosen           string      // the thread that g and m are about, as gdb said it last, or was told
	missing          bool        // that thread is not there
	gone             *inferior   // that gdb chose, and that is not there at the step; nil: it is
	trace            *replay.Trace
	conn             *conn
	stale, once, all bool
	next             *Session // of the next connection: gdb asked for another process; nil: it did not
	local            bool     // gdb reads files by itself that are here and surely the ones that ran

	general, running uint32 // threads that g and m, and s and bs, are about; 0: any
	alone            bool   // what is to run is one process, not all
	stop             stopReason
	watches          []watch
	catches          map[uint32]bool // numbers of calls; nil: none, empty: all
	pass             map[int]bool    // signals, by gdb's numbers, that do not stop
	images           []image         // in the order of their steps
	files            map[int]opened
	root             uint32            // the process whose files gdb opens, 0: that of m
	xfer             map[string]string // what is read in pieces
	marks            map[string]format.Step
}

// New makes a session: it finds the process and the step to begin at.
func New(ctx context.Context, t *replay.Trace, o Options) (*Session, error) {
	s := newSession(t)
	s.stale, s.once, s.all, s.marks = o.Stale, o.Once, o.All, map[string]format.Step{}
	return s, s.begin(ctx, o)
}

func newSession(t *replay.Trace) *Session {
	return &Session{
		trace: t, files: map[int]opened{}, xfer: map[string]string{}, pass: map[int]bool{},
	}
}

// Next is the session of the next connection, nil if gdb did not ask for one before it went.
func (s *Session) Next() *Session { return s.next }

// Serve serves the log to the gdb at the other end of rw, until it goes.
func (s *Session) Serve(ctx context.Context, rw io.ReadWriter) error {
	s.conn = newConn(rw)
	defer s.closeFiles()
	packets := make(chan inbound)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, 1)
	run := newRun(ctx)
	go func() {
		for {
			p, err := s.conn.read()
			if err != nil {
				failed <- err
				close(packets)
				return
			}
			if p.kind == interrupt {
				run.interrupt()
				continue
			}
			select {
			case packets <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	for p := range packets {
		ok, err := s.conn.acknowledge(p)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if end, err := s.packet(run, p.text); end || err != nil {
			return err
		}
	}
	if err := <-failed; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return nil
}

// begin finds the process and the step to begin at.
func (s *Session) begin(ctx context.Context, o Options) error {
	lives, err := s.trace.Lives(ctx)
	if err != nil {
		return err
	}
	var life *replay.Life
	for i := range lives {
		if o.PID == 0 || lives[i].PID == o.PID {
			life = &lives[i]
			break
		}
	}
	if life == nil && o.PID == 0 {
		return fmt.Errorf("%w: the log knows none", replay.ErrNoProcess)
	}
	if life == nil {
		return fmt.Errorf("process %d: %w", o.PID, replay.ErrNoProcess)
	}
	if err := s.survey(ctx); err != nil {
		return err
	}
	at := life.Last
	switch {
	case o.At != nil:
		at = *o.At
	case life.Killed:
		at = life.Fatal
	}
	return s.show(ctx, lives, life, at)
}

// image is a step at which memory was read.
type image struct {
	step  format.Step
	mm    uint32
	sweep bool // while the program ran
}

// survey goes over the events once, for the steps at which memory was read.
func (s *Session) survey(ctx context.Context) error {
	for e, err := range s.trace.Events(0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if snap, ok := e.Record.(*format.Snapshot); ok {
			s.images = append(s.images, image{e.Step, snap.MM, snap.Reason == format.ReasonSweep})
		}
	}
	return nil
}

// signalAt is the signal that the moment's event is, in gdb's numbers, else SIGTRAP.
func (s *Session) signalAt(m *moment) int {
	if sig, ok := m.event.Record.(*format.Signal); ok && m.thread(0) != nil {
		return gdbSignal(int(sig.Signo))
	}
	return gdbTrap
}

func duration(ns uint64) time.Duration { return time.Duration(min(ns, 1<<62)) }

// packet answers one packet. end says that gdb has gone.
func (s *Session) packet(run *run, p string) (end bool, err error) {
	name, rest := p, ""
	switch {
	case p == "":
		return false, s.conn.write("")
	case strings.ContainsRune("gpPmxMXGHTZz", rune(p[0])):
		name, rest = p[:1], p[1:]
	default:
		if i := strings.IndexAny(p, ":;,"); i > 0 {
			name, rest = p[:i], p[i+1:]
		}
	}
	switch name {
	case "k", "vKill":
		if name == "vKill" {
			return s.detach(rest)
		}
		s.next = nil
		return true, nil
	case "D":
		return s.detach(rest)
	case "QStartNoAckMode":
		err = s.conn.write("OK")
		s.conn.noAck = true
		return false, err
	}
	if f := moves[name]; f != nil {
		return false, s.move(run, f, rest)
	}
	answer := ""
	if f := answers[name]; f != nil {
		if answer = s.unanswerable(name, rest); answer == "" {
			answer, err = f(s, run.ctx, rest)
		}
	}
	if err != nil {
		answer = "E01"
	}
	return false, s.conn.write(answer)
}

// unanswerable is the answer to a packet about a thread that is not there at the step, or a process; "" if it is
// there. gdb goes on with a thread that was refused (H), and would take what is said of another for it.
func (s *Session) unanswerable(name, rest string) string {
	switch {
	case name == "g" && s.missing:
		id := s.addressed().arch
		return string(describe(id).appendAll(nil, newRegs(id)))
	case name == "p" && s.missing:
		return "E03"
	case s.gone == nil:
	case name == "m" || name == "x":
		return "E0e" // EFAULT
	case name == "qXfer" && !strings.HasPrefix(rest, "threads:") && !strings.HasPrefix(rest, "exec-file:") && !strings.HasPrefix(rest, "features:"):
		return "E01"
	}
	return ""
}

// answers are the packets that move nothing.
var answers map[string]func(*Session, context.Context, string) (string, error)

func init() {
	ok := func(*Session, context.Context, string) (string, error) { return "OK", nil }
	past := func(*Session, context.Context, string) (string, error) { return "E1e", nil } // EROFS
	answers = map[string]func(*Session, context.Context, string) (string, error){
		"qSupported": (*Session).supported, "?": (*Session).reason, "H": (*Session).choose, "T": (*Session).alive, "qC": (*Session).current,
		"g": (*Session).registers, "p": (*Session).register, "m": (*Session).memory, "x": (*Session).binary,
		"G": past, "P": past, "M": past, "X": past,
		"Z": (*Session).insert, "z": (*Session).remove, "QCatchSyscalls": (*Session).catch, "QPassSignals": (*Session).passSignals,
		"qXfer": (*Session).transfer, "qRcmd": (*Session).monitor, "vFile": (*Session).file,
		"vCont?":       func(*Session, context.Context, string) (string, error) { return "vCont;c;C;s;S", nil },
		"qAttached":    func(*Session, context.Context, string) (string, error) { return "1", nil },
		"qfThreadInfo": (*Session).threadIDs, "qsThreadInfo": func(*Session, context.Context, string) (string, error) { return "l", nil },
		"qHostInfo": (*Session).host, "qProcessInfo": (*Session).processInfo, "qMemoryRegionInfo": (*Session).region,
		"!": ok, "qSymbol": ok, "QNonStop": ok, "vAttach": (*Session).attach,
	}
}

// supported says what this stub can do.
func (s *Session) supported(context.Context, string) (string, error) {
	return fmt.Sprintf("PacketSize=%x;multiprocess+;vContSupported+;swbreak+;hwbreak+;ReverseStep+;ReverseContinue+;QStartNoAckMode+;QPassSignals+;QCatchSyscalls+;"+
		"qXfer:features:read+;qXfer:threads:read+;qXfer:auxv:read+;qXfer:exec-file:read+;qXfer:libraries-svr4:read+;qXfer:siginfo:read+", maxPacket-8), nil
}

// id is a thread's in packets.
func (p *inferior) id(tid uint32) string { return fmt.Sprintf("p%x.%x", p.pid, tid) }

// parseID reads the thread of a packet: p and the process may be before it. 0 is any.
func parseID(p string) (pid, tid uint32, ok bool) {
	if rest, has := strings.CutPrefix(p, "p"); has {
		process, thread, two := strings.Cut(rest, ".")
		if p = thread; !two {
			p = "0"
		}
		n, err := strconv.ParseUint(process, 16, 32)
		if err != nil && process != "-1" {
			return 0, 0, false
		}
		pid = uint32(n)
	}
	if p == "-1" {
		return pid, 0, true
	}
	n, err := strconv.ParseUint(p, 16, 32)
	return pid, uint32(n), err == nil
}

// find is the thread of a packet, and the process that it is of, at the present step. The moment is nil if the
// process is not there, the process if gdb is not shown it.
func (s *Session) find(pid, tid uint32) (*inferior, *moment, *thread, error) {
	p := s.inferior
	switch {
	case pid != 0:
		p = s.byPID(pid)
	case tid != 0:
		for _, x := range s.inferiors {
			m, err := s.present(x)
			if err != nil {
				return nil, nil, nil, err
			}
			if m != nil && m.thread(tid) != nil {
				p = x
			}
		}
	}
	if p == nil {
		return nil, nil, nil, nil
	}
	m, err := s.present(p)
	if m == nil || err != nil {
		return p, nil, nil, err
	}
	return p, m, m.thread(tid), nil
}

// choose is H: the thread that later packets are about.
func (s *Session) choose(_ context.Context, id string) (string, error) {
	if id == "" {
		return "", nil
	}
	pid, tid, ok := parseID(id[1:])
	if !ok {
		return "E03", nil
	}
	if id[0] != 'g' {
		s.alone = pid != 0
	}
	p, m, th, err := s.find(pid, tid)
	if err != nil {
		return "", err
	}
	if id[0] != 'g' {
		if th == nil {
			return "E03", nil
		}
		if tid != 0 {
			s.running = tid
		}
		return "OK", nil
	}
	if m != nil && s.inferior != p {
		s.inferior = p
		clear(s.xfer)
	}
	s.chosen = id[1:]
	if s.missing, s.gone = false, nil; m == nil {
		clear(s.xfer)
	}
	switch {
	case p == nil:
		s.missing = true
	case (m == nil || len(m.threads) == 0) && (tid == 0 || tid == p.pid):
		if s.missing = true; m == nil {
			s.gone = p
		}
		s.general = tid
		return "OK", nil
	case th == nil:
		s.missing = true
	default:
		s.general = tid
		return "OK", nil
	}
	return "E03", nil
}

func (s *Session) alive(_ context.Context, p string) (string, error) {
	if pid, tid, ok := parseID(p); ok {
		if p, m, th, err := s.find(pid, tid); th != nil || err != nil || p != nil && (m == nil || len(m.threads) == 0) && tid == p.pid {
			return "OK", err
		}
	}
	return "E03", nil
}

func (s *Session) current(context.Context, string) (string, error) {
	if s.missing {
		return "QC" + s.chosen, nil
	}
	return "QC" + s.id(s.shown().TID), nil
}

func (s *Session) threadIDs(context.Context, string) (string, error) {
	var ids []string
	err := s.rows(func(id, _ string) { ids = append(ids, id) })
	if len(ids) == 0 {
		return "l", err
	}
	return "m" + strings.Join(ids, ","), err
}

// shown is the thread that g and m are about.
func (s *Session) shown() *thread {
	if th := s.now.thread(s.general); th != nil {
		return th
	}
	return s.now.thread(0)
}

// registers is g: all of them.
func (s *Session) registers(context.Context, string) (string, error) {
	th := s.shown()
	if s.lldb {
		return "", nil
	}
	return string(describe(th.arch).appendAll(nil, th.regs)), nil
}

// register is p: one of them.
func (s *Session) register(_ context.Context, p string) (string, error) {
	n, err := strconv.ParseUint(p, 16, 16)
	th := s.shown()
	d := describe(th.arch)
	if err != nil || int(n) >= len(d.fields) {
		return "E16", nil
	}
	text := string(d.fields[n].append(nil, th.regs))
	if s.lldb && strings.HasPrefix(text, "x") {
		return "E16", nil
	}
	return text, nil
}

// span reads "ADDR,LEN" in hexadecimal.
func span(p string) (a addr.Addr, n uint64, ok bool) {
	x, y, two := strings.Cut(p, ",")
	at, err := strconv.ParseUint(x, 16, 64)
	n, err2 := strconv.ParseUint(y, 16, 64)
	return addr.Addr(at), n, two && err == nil && err2 == nil
}

// bytes reads memory as a packet asks for it.
func (s *Session) bytes(p string, most int) ([]byte, string, error) {
	a, n, ok := span(p)
	if !ok {
		return nil, "E16", nil
	}
	b := make([]byte, min(n, uint64(most)))
	k, err := s.read(s.now, b, a)
	if err != nil || k == 0 && len(b) > 0 {
		return nil, "E0e", err // EFAULT
	}
	return b[:k], "", nil
}

// memory is m: bytes up to the first that is not known.
func (s *Session) memory(_ context.Context, p string) (string, error) {
	b, fail, err := s.bytes(p, (maxPacket-8)/2)
	if fail != "" || err != nil {
		return fail, err
	}
	return hex.EncodeToString(b), nil
}

// binary is x, the same as bytes.
func (s *Session) binary(_ context.Context, p string) (string, error) {
	b, fail, err := s.bytes(p, maxPacket/2-8)
	if fail != "" || err != nil {
		return fail, err
	}
	return "b" + string(b), nil
}

// note shows gdb's user a line. It is for while gdb waits for a stop.
func (s *Session) note(format string, a ...any) error {
	return s.conn.write("O" + hex.EncodeToString([]byte("memtrace: "+replay.Escape(fmt.Sprintf(format, a...))+"\n")))
}
