package console

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/replay"
)

// Program is what a living program can be asked and told while one of its
// threads is at a stop.
type Program interface {
	replay.LiveMemory
	// WriteMem writes memory, which becomes an event of the log.
	WriteMem(mm uint32, b []byte, a addr.Addr) error
	// Regs are the registers of a thread that is at a stop.
	Regs(tid uint32) ([]uint64, error)
	// Text is a source as format.Sample names it, or a file of /proc/PID, as it
	// is now.
	Text(source string, pid uint32) ([]byte, error)
	// Detach ends the recording and lets the program run on; Kill ends it.
	Detach()
	Kill()
}

// Stop is where the program stands.
type Stop struct {
	Program
	Before *format.Syscall // a call about to be made; nil: the last event has happened
	TID    uint32          // 0: the thread has ended
	Asked  bool            // neither: the user asked for it
}

// Live is the Target of a living program. Its methods are for the goroutine that
// records, but for Waiting.
type Live struct {
	// Foreground, if not nil, makes this process the terminal's foreground; the
	// function that it returns undoes that.
	Foreground func() (back func())

	f     *replay.Follower
	start time.Time
	s     *Session
	at    Stop

	sources []input // where commands come from, first the script
	detach  bool    // at the end of all sources; else the program is recorded to its end

	next    uint64 // stops to show before the next prompt
	run     bool   // only what is waited for stops
	cond    Cond
	breaks  []breakpoint
	only    uint32 // stops of this thread alone; 0: of all
	over    bool   // detached or killed
	killed  bool
	begun   bool
	why     string // why this stop, if it is not a step
	waiting atomic.Bool
	wanted  atomic.Bool // the user wants to be asked at the next stop
	silent  atomic.Bool // there is nobody left to ask

	symbols *replay.Symbols
}

type breakpoint struct {
	text string
	set  arch.Set
}

// errGo ends a prompt: the program goes on.
var errGo = errors.New("go on")

// NewLive makes a console for a recording that began at start. Commands come from
// script, if it is not nil, and then from in: to the end of a nil in the program
// is recorded without stops, at the end of another one it is detached.
func NewLive(start time.Time, script, in io.Reader, out, errw io.Writer) *Live {
	l := &Live{f: replay.NewFollower(start, replay.PrintOptions{}), start: start, next: 1, detach: in != nil, symbols: &replay.Symbols{Start: start}}
	l.s = New(l, out, errw)
	if in != nil {
		src, _ := l.s.open(in)
		l.sources = append(l.sources, src)
	}
	if script != nil {
		l.sources = append([]input{pipe{bufio.NewReader(script)}}, l.sources...)
	}
	return l
}

// Close gives the terminal back.
func (l *Live) Close() {
	if l.Foreground != nil {
		l.Foreground()
	}
	for _, s := range l.sources {
		s.close()
	}
	l.sources = nil
}

// Waiting says whether the console has the word, Silent whether it will never
// have it again. They may be called from any goroutine.
func (l *Live) Waiting() bool { return l.waiting.Load() }
func (l *Live) Silent() bool  { return l.silent.Load() }

// Interrupt has the console asked at the next stop, whatever it is. It may be
// called from any goroutine.
func (l *Live) Interrupt() { l.wanted.Store(true) }

// Killed says whether the user ended the program.
func (l *Live) Killed() bool { return l.killed }

// See follows an event.
func (l *Live) See(e *format.Event) {
	if _, err := l.f.See(e); err != nil {
		fmt.Fprintln(l.s.Err, "memtrace:", err)
	}
}

// Pause is called at each stop, after See if an event has happened. keep says
// that the signal at hand is not to be delivered.
func (l *Live) Pause(at Stop) (keep bool) {
	if l.over || l.silent.Load() {
		return false
	}
	l.at, l.why = at, ""
	stop, show := l.decide()
	keep = l.why == ctrlC
	if show && !stop {
		l.s.show()
	}
	if !stop {
		return keep
	}
	l.run, l.cond, l.next = false, nil, 1
	l.waiting.Store(true)
	l.converse()
	l.waiting.Store(false)
	return keep
}

const ctrlC = "Ctrl-C (the signal was kept from the program)"

// decide says whether to stop here, and whether to show the line.
func (l *Live) decide() (stop, show bool) {
	m := l.f.Moment()
	switch {
	case l.at.Before == nil && fromTerminal(m):
		l.wanted.Store(false)
		l.why = ctrlC
		return true, true
	case l.wanted.Load():
		l.wanted.Store(false)
		l.why = "interrupted"
		return true, true
	case l.at.Asked: // for a wish that another stop has fulfilled
		return false, false
	case !l.begun:
		l.begun = true
		return true, true
	}
	if c := l.at.Before; c != nil {
		for _, b := range l.breaks {
			if b.set.Has(c.Arch, c.Nr) {
				l.why = "break " + b.text
				return true, true
			}
		}
	}
	if l.at.Before == nil && l.cond != nil && l.cond(m) {
		return true, true
	}
	if l.run || l.only != 0 && l.at.TID != l.only || l.at.Before == nil && !worth(m.Event.Record) {
		return false, false
	}
	l.next--
	return l.next == 0, true
}

// worth says whether an event is one that stepping stops at: not what the
// recorder does for itself.
func worth(r format.Record) bool {
	switch r.(type) {
	case *format.Snapshot, *format.MemInfo, *format.Check, *format.Detach, *format.Poke, *format.Outside:
		return false
	}
	return true
}

// fromTerminal says that an event is the SIGINT of a Ctrl-C.
func fromTerminal(m *replay.Moment) bool {
	if m == nil {
		return false
	}
	s, ok := m.Event.Record.(*format.Signal)
	const siKernel = 0x80
	return ok && s.Signo == 2 && call.ParseSigInfo(s.Info).Code == siKernel
}

// converse has the terminal for as long as the user has the word.
func (l *Live) converse() {
	if len(l.sources) > 0 {
		if t, ok := l.sources[len(l.sources)-1].(*terminal); ok {
			back := func() {}
			if l.Foreground != nil {
				back = l.Foreground()
			}
			t.enter()
			defer func() {
				if !l.over { // else it is ours from now on
					t.leave()
					back()
				}
			}()
		}
	}
	l.s.show()
	l.talk()
}

// talk reads commands until one lets the program go on.
func (l *Live) talk() {
	for len(l.sources) > 0 {
		src := l.sources[0]
		line, err := src.line(l.s.prompt())
		switch {
		case errors.Is(err, errAborted):
			continue
		case err != nil:
			src.close()
			l.sources = l.sources[1:]
			continue
		}
		switch err := l.s.Do(context.Background(), line); {
		case errors.Is(err, errGo):
			return
		case err != nil:
			fmt.Fprintln(l.s.Err, "memtrace:", err)
		}
	}
	l.silent.Store(true)
	if l.detach {
		l.leave()
	}
}

func (l *Live) leave() {
	l.over = true
	l.at.Detach()
	fmt.Fprintln(l.s.Err, "memtrace: detached: the program runs on")
}

// Show writes the line of the stop.
func (l *Live) Show(w io.Writer) {
	if l.why != "" {
		fmt.Fprintln(w, "--", l.why)
	}
	fmt.Fprintln(w, l.Line())
	if l.at.Before == nil && !l.at.Asked {
		if m := l.Moment(); m != nil {
			for _, c := range summarize(m) {
				fmt.Fprintln(w, "       "+c)
			}
		}
	}
}

// Line is the stop in one line.
func (l *Live) Line() string {
	switch c := l.at.Before; {
	case c != nil:
		return fmt.Sprintf("[pid %d] before %s", l.at.TID, l.f.Entry(l.thread().No, c))
	case l.at.Asked:
		return fmt.Sprintf("[pid %d] running", l.at.TID)
	}
	m := l.f.Moment()
	if m == nil {
		return ""
	}
	line := l.f.Line()
	if p := fmt.Sprintf("[pid %d] ", m.Thread.TID); !strings.HasPrefix(line, p) {
		line = p + line
	} else {
		line = line[len(p):]
		return p + "after  " + line
	}
	return strings.Replace(line, "] ", "] after  ", 1)
}

// thread is whose stop it is.
func (l *Live) thread() format.Thread {
	for _, t := range l.f.State().Threads {
		if t.TID == l.at.TID {
			return *t
		}
	}
	return format.Thread{}
}

// Prompt says where the program stands.
func (l *Live) Prompt() string {
	m := l.f.Moment()
	if m == nil {
		return "> "
	}
	if l.at.Before != nil {
		return fmt.Sprintf("%d before step %d> ", l.at.TID, m.Event.Step+1)
	}
	return fmt.Sprintf("%d step %d> ", l.at.TID, m.Event.Step)
}

func (l *Live) View() *replay.View {
	v := &replay.View{State: l.f.State(), Start: l.start, Live: l.at.Program, Symbols: l.symbols}
	if m := l.f.Moment(); m != nil {
		v.Step = m.Event.Step
	}
	return v
}

func (l *Live) Moment() *replay.Moment { return l.f.Moment() }

func (l *Live) Next(context.Context) error { return errGo }

// Process without a pid is the one whose thread is at the stop.
func (l *Live) Process(_ context.Context, pid uint32) (*replay.Process, error) {
	v := l.View()
	if pid == 0 {
		if pid = l.at.TID; pid == 0 || l.thread().No == 0 {
			if ps := v.Processes(); len(ps) > 0 {
				return ps[0], nil
			}
		}
	}
	return v.Process(pid)
}

func (l *Live) Registers(ts []format.Thread) ([]replay.Registers, error) {
	step := l.View().Step
	out := make([]replay.Registers, len(ts))
	for i, t := range ts {
		out[i] = replay.Registers{Thread: t, AsOf: step}
		// A thread that runs has none to show.
		out[i].Values, _ = l.at.Regs(t.TID)
	}
	return out, nil
}

func (l *Live) Stacks(_ context.Context, s *replay.AddressSpace, ts []format.Thread) (out []replay.ThreadStack, err error) {
	regs, err := l.Registers(ts)
	u := replay.NewStacks(s, l.symbols)
	for i := range regs {
		one, err := u.Unwind(&regs[i], false)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, err
}

func (l *Live) Sample(source string, pid uint32) ([]byte, format.Step, bool, error) {
	text, err := l.at.Text(source, pid)
	return text, l.View().Step, err == nil && len(text) > 0, nil
}

// rss is the resident memory of a process now.
func (l *Live) rss(pid uint32) (uint64, bool) {
	text, err := l.at.Text("statm", pid)
	f := strings.Fields(string(text))
	if err != nil || len(f) < 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(f[1], 10, 64)
	return n * addr.PageSize, err == nil
}

// Words of a living program.
func (l *Live) Words() []Command {
	return []Command{
		{Name: "next", Aliases: []string{"n"}, Args: "[COUNT]", Short: "go on to the next stop, or COUNT stops on",
			Long: "Stops are before and after each system call, and at signals, execs, births and exits.", Run: l.goNext},
		{
			Name: "continue", Aliases: []string{"cont", "c"}, Args: "[until] [COND]",
			Short:    "go on to the next event that meets COND, to a break or Ctrl-C, or to the end",
			Long:     "Conditions are:\n" + CondHelp,
			Complete: func(*Session, []string) []string { return condWords() }, Run: l.goOn,
		},
		{Name: "break", Aliases: []string{"b"}, Args: "[SYSCALL | -]", Short: "always stop before this call (strace's -e syntax); - forgets all; nothing lists them", Run: l.addBreak},
		{Name: "thread", Args: "ID | all", Short: "stop for this thread only, or for all again", Complete: tids, Run: l.chooseThread},
		{
			Name: "write", Args: "ADDR VALUE... | ADDR BYTES", Short: "write into the program's memory",
			Long: `ADDR is an expression of numbers, symbols and names of mappings: data+4*3.
VALUEs are written as words of 4 bytes, of 8 where one does not fit, or as
VALUE:SIZE says; BYTES are "text" with C escapes or hex:DEADBEEF. What was there
before is in the log. Read-only mappings can be written too.`,
			Complete: places, Run: l.write,
		},
		{Name: "repeat", Args: "N COMMAND...", Short: "carry out a command N times, with i counting from 0", Long: "repeat 32 write data+4*i i", Run: l.repeat},
		{
			Name: "detach", Short: "stop recording, the program runs on",
			Run: func(context.Context, *Session, []string) error { l.leave(); return errGo },
		},
		{
			Name: "quit", Aliases: []string{"q"}, Short: "stop recording and kill the program",
			Run: func(context.Context, *Session, []string) error {
				l.over, l.killed = true, true
				l.at.Kill()
				return errGo
			},
		},
	}
}

// tids proposes threads.
func tids(s *Session, _ []string) []string {
	out := []string{"all"}
	for _, t := range s.View().State.Threads {
		out = append(out, strconv.FormatUint(uint64(t.TID), 10))
	}
	return out
}

func (l *Live) goNext(_ context.Context, _ *Session, args []string) error {
	n, err := countArg(args)
	if err != nil {
		return err
	}
	l.next = n
	return errGo
}

func (l *Live) goOn(_ context.Context, _ *Session, args []string) error {
	if len(args) > 0 && args[0] == "until" {
		args = args[1:]
	}
	if len(args) > 0 {
		c, err := ParseCondLive(args, l.rss)
		if err != nil {
			return err
		}
		l.cond = c
	}
	l.run = true
	return errGo
}

func (l *Live) addBreak(_ context.Context, s *Session, args []string) error {
	switch {
	case len(args) == 0:
		if len(l.breaks) == 0 {
			fmt.Fprintln(s.Out, "no breaks")
		}
		for _, b := range l.breaks {
			fmt.Fprintln(s.Out, "before", b.text)
		}
		return nil
	case args[0] == "-":
		l.breaks = nil
		return nil
	}
	text := strings.Join(args, ",")
	set, err := arch.ParseSet(text)
	if err != nil {
		return err
	}
	l.breaks = append(l.breaks, breakpoint{text, set})
	return nil
}

func (l *Live) chooseThread(_ context.Context, s *Session, args []string) error {
	if len(args) != 1 {
		return errors.New("which thread? thread ID, or thread all")
	}
	if args[0] == "all" {
		l.only = 0
		return nil
	}
	n, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("%q is not a thread (threads lists them)", args[0])
	}
	for _, t := range s.View().State.Threads {
		if uint64(t.TID) == n {
			l.only = uint32(n)
			fmt.Fprintf(s.Out, "stops of thread %d only, until thread all\n", n)
			return nil
		}
	}
	return fmt.Errorf("no thread %d (threads lists them)", n)
}

// maxWrite is how much one command may write.
const maxWrite = 1 << 20

func (l *Live) write(ctx context.Context, s *Session, args []string) error {
	if len(args) < 2 {
		return errors.New("write what where? write ADDR VALUE..., or write ADDR BYTES")
	}
	sp, err := s.space(ctx, nil)
	if err != nil {
		return err
	}
	scope := s.scope(sp)
	at, err := scope.Eval(args[0])
	if err != nil {
		return err
	}
	var data []byte
	for _, w := range args[1:] {
		b, err := value(scope, w)
		if err != nil {
			return err
		}
		data = append(data, b...)
	}
	if len(data) > maxWrite {
		return fmt.Errorf("%d bytes are too many at once", len(data))
	}
	old := make([]byte, len(data))
	n, _ := l.at.ReadMem(sp.No(), old, addr.Addr(at))
	if err := l.at.WriteMem(sp.No(), data, addr.Addr(at)); err != nil {
		return err
	}
	fmt.Fprintf(s.Out, "%v: %d bytes, %s -> %s\n", addr.Addr(at), len(data), few(old[:n]), few(data))
	return nil
}

func few(b []byte) string {
	if len(b) > 16 {
		return fmt.Sprintf("% x ...", b[:16])
	}
	return fmt.Sprintf("% x", b)
}

// value is what one argument of write stands for.
func value(scope *replay.Scope, w string) ([]byte, error) {
	if strings.HasPrefix(w, `"`) || strings.HasPrefix(w, "'") {
		return replay.ParseBytes(w)
	}
	if h, ok := strings.CutPrefix(w, "hex:"); ok {
		return replay.ParseBytes("0x" + h)
	}
	expr, size := w, 0
	if i := strings.LastIndexByte(w, ':'); i > 0 {
		n, err := strconv.Atoi(w[i+1:])
		if err != nil || n != 1 && n != 2 && n != 4 && n != 8 {
			return nil, fmt.Errorf("%q: a value has 1, 2, 4 or 8 bytes", w)
		}
		expr, size = w[:i], n
	}
	neg := strings.HasPrefix(expr, "-")
	n, err := scope.Eval(strings.TrimPrefix(expr, "-"))
	if err != nil {
		return nil, err
	}
	if neg {
		n = -n
	}
	fits := func(bits int) bool { return n>>bits == 0 || int64(n)>>(bits-1) == -1 }
	if size == 0 {
		if size = 4; !fits(32) {
			size = 8
		}
	}
	if size < 8 && !fits(8*size) {
		return nil, fmt.Errorf("%s does not fit into %d bytes", expr, size)
	}
	return binary.LittleEndian.AppendUint64(nil, n)[:size], nil
}

func (l *Live) repeat(ctx context.Context, s *Session, args []string) error {
	if len(args) < 2 {
		return errors.New("repeat what: repeat N COMMAND")
	}
	n, err := strconv.ParseUint(args[0], 10, 20)
	if err != nil {
		return fmt.Errorf("%q is not a number of times", args[0])
	}
	w, err := s.find(args[1])
	if err != nil {
		return err
	}
	if w.Name == "repeat" {
		return errors.New("repeat repeats no repeat")
	}
	defer func() { s.vars = nil }()
	for i := range n {
		s.vars = map[string]uint64{"i": i}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.Run(ctx, s, args[2:]); err != nil {
			return err
		}
	}
	return nil
}

// Terminal says whether a person types.
func Terminal() bool { return isTerminal(os.Stdin) && isTerminal(os.Stdout) }
