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
	PID   uint32       // of the process that gdb is shown, 0: the log's first
	At    *format.Step // where to begin; nil: at the signal that killed it, else at the last stop
	Stale bool         // give bytes of stacks too that may be old
	Once  bool         // gdb cannot connect a second time, to be shown another process
}

// Session is one gdb at one process of a log, as long as it is connected.
type Session struct {
	trace       *replay.Trace
	conn        *conn
	pid         uint32
	life        *replay.Life
	first, last format.Step // of the program that the process runs: gdb knows one at a time
	now         *moment
	fatal       *format.Event // the signal that ended the process; nil: none did
	stale, once bool
	next        *Session // of the next connection: gdb asked for another process; nil: it did not
	local       bool     // gdb reads files by itself that are here and surely the ones that ran

	general, running uint32 // threads that g and m, and s and bs, are about; 0: any
	stop             stopReason
	watches          []watch
	breaks           map[addr.Addr]bool
	catches          map[uint32]bool // numbers of calls; nil: none, empty: all
	pass             map[int]bool    // signals, by gdb's numbers, that do not stop
	images           []image         // in the order of their steps
	files            map[int]opened
	xfer             map[string]string  // what is read in pieces
	told             map[addr.Addr]bool // breakpoints that were spoken of
	marks            map[string]format.Step
}

// New makes a session: it finds the process and the step to begin at.
func New(ctx context.Context, t *replay.Trace, o Options) (*Session, error) {
	s := newSession(t)
	s.stale, s.once, s.marks = o.Stale, o.Once, map[string]format.Step{}
	return s, s.begin(ctx, o)
}

func newSession(t *replay.Trace) *Session {
	return &Session{
		trace: t, breaks: map[addr.Addr]bool{}, files: map[int]opened{}, xfer: map[string]string{}, told: map[addr.Addr]bool{}, pass: map[int]bool{},
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
	return s.show(ctx, life, at)
}

// show stands at a step of a process, or at the nearest at which the place of one of its threads is known.
func (s *Session) show(ctx context.Context, life *replay.Life, at format.Step) error {
	s.life, s.pid = life, life.PID
	if describe(life.Arch) == nil {
		return fmt.Errorf("process %d: gdb cannot be served programs of %v yet", s.pid, life.Arch)
	}
	if life.Killed {
		for e, err := range s.trace.Events(life.Fatal) {
			if err != nil {
				return err
			}
			s.fatal = e.Clone()
			break
		}
	}
	s.bound(at)
	m, err := s.nearest(ctx, at, backward, s.first)
	if err == nil && m == nil {
		m, err = s.nearest(ctx, at, forward, s.last)
	}
	switch {
	case err != nil:
		return err
	case m == nil:
		return fmt.Errorf("process %d: at no step of the log is it known where one of its threads is", s.pid)
	}
	s.stand(m, stopReason{signal: s.signalAt(m)})
	return nil
}

// bound finds the first and the last step of the program that the process runs at step n.
func (s *Session) bound(n format.Step) {
	s.first, s.last = s.life.First, s.life.Last
	for i := range s.life.Execs {
		if x := s.life.Execs[i].Step; x <= n {
			s.first = max(s.first, x)
		} else {
			s.last = min(s.last, x-1)
			break
		}
	}
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

// stand makes m the present moment.
func (s *Session) stand(m *moment, why stopReason) {
	s.now, s.stop = m, why
	if th := m.front(s.running); th != nil {
		s.running, s.general = th.TID, th.TID
	}
	clear(s.xfer)
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
		s.next = nil
		if name == "vKill" {
			err = s.conn.write("OK")
		}
		return true, err
	case "D":
		s.next = nil
		return true, s.conn.write("OK")
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
		answer, err = f(s, run.ctx, rest)
	}
	if err != nil {
		answer = "E01"
	}
	return false, s.conn.write(answer)
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
		"!": ok, "qSymbol": ok, "QNonStop": ok,
	}
}

// supported says what this stub can do.
func (s *Session) supported(context.Context, string) (string, error) {
	return fmt.Sprintf("PacketSize=%x;multiprocess+;vContSupported+;swbreak+;hwbreak+;ReverseStep+;ReverseContinue+;QStartNoAckMode+;QPassSignals+;QCatchSyscalls+;"+
		"qXfer:features:read+;qXfer:threads:read+;qXfer:auxv:read+;qXfer:exec-file:read+;qXfer:libraries-svr4:read+;qXfer:siginfo:read+", maxPacket-8), nil
}

// id is a thread's in packets.
func (s *Session) id(tid uint32) string { return fmt.Sprintf("p%x.%x", s.pid, tid) }

// parseID reads the thread of a packet: p and the process may be before it. 0 is any.
func parseID(p string) (tid uint32, ok bool) {
	if rest, has := strings.CutPrefix(p, "p"); has {
		if _, thread, two := strings.Cut(rest, "."); two {
			p = thread
		} else {
			p = "0"
		}
	}
	if p == "-1" {
		return 0, true
	}
	n, err := strconv.ParseUint(p, 16, 32)
	return uint32(n), err == nil
}

// choose is H: the thread that later packets are about.
func (s *Session) choose(_ context.Context, p string) (string, error) {
	if p == "" {
		return "", nil
	}
	tid, ok := parseID(p[1:])
	if !ok || s.now.thread(tid) == nil {
		return "E03", nil
	}
	if p[0] == 'g' {
		s.general = tid
	} else if tid != 0 {
		s.running = tid
	}
	return "OK", nil
}

func (s *Session) alive(_ context.Context, p string) (string, error) {
	if tid, ok := parseID(p); ok && s.now.thread(tid) != nil {
		return "OK", nil
	}
	return "E03", nil
}

func (s *Session) current(context.Context, string) (string, error) {
	return "QC" + s.id(s.shown().TID), nil
}

func (s *Session) threadIDs(context.Context, string) (string, error) {
	var ids []string
	for i := range s.now.threads {
		ids = append(ids, s.id(s.now.threads[i].TID))
	}
	return "m" + strings.Join(ids, ","), nil
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
	var b []byte
	d := describe(th.arch)
	for i := range d.fields {
		b = d.fields[i].append(b, th.regs)
	}
	return string(b), nil
}

// register is p: one of them.
func (s *Session) register(_ context.Context, p string) (string, error) {
	n, err := strconv.ParseUint(p, 16, 16)
	th := s.shown()
	d := describe(th.arch)
	if err != nil || int(n) >= len(d.fields) {
		return "E16", nil
	}
	return string(d.fields[n].append(nil, th.regs)), nil
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
