package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
)

// sharedWords are the words of every target.
func sharedWords() []Command {
	return []Command{
		{Name: "next", Aliases: []string{"n"}, Args: "[COUNT]", Short: "one step on, or COUNT", Run: next},
		{
			Name: "system", Aliases: []string{"sys", "s"}, Short: "memory of the whole system, as last sampled",
			Long: "What the groups say:\n" + analyze.SystemHelp(), Run: system,
		},
		{
			Name: "process", Aliases: []string{"proc", "p"}, Args: "[ID]",
			Short:    "memory of a process: sizes by kind, what is shared, the largest mappings",
			Complete: pids, Run: process,
		},
		{Name: "use", Args: "ID", Short: "look at this process from now on; 0: at the main one", Complete: pids, Run: use},
		{Name: "maps", Args: "[ID]", Short: "the mappings, as /proc/PID/maps shows them", Complete: pids, Run: maps},
		{
			Name: "mem", Aliases: []string{"x"}, Args: "ADDR LEN", Short: "bytes in hexadecimal; ADDR may be a mapping's name, as heap+0x10",
			Complete: places, Run: mem,
		},
		{
			Name: "find", Args: "BYTES [all]", Short: `where captured memory holds "text" or 0xHEX bytes; all: at any step`, Run: find,
		},
		{Name: "regs", Args: "[ID]", Short: "registers of the threads, at their last stop", Complete: pids, Run: regs},
		{Name: "stack", Args: "[ID]", Short: "call stacks of the threads", Long: "In a log: as logged, or where registers and memory of the step are known exactly.", Complete: pids, Run: stack},
		{Name: "event", Args: "", Short: "all there is to say about the present event", Run: event},
		{Name: "threads", Short: "the processes and threads that live at this step", Run: threads},
		{Name: "help", Aliases: []string{"h", "?"}, Args: "[WORD]", Short: "the words, or more about one", Complete: helpWords, Run: help},
		{
			Name: "quit", Aliases: []string{"q", "exit"}, Short: "leave",
			Run: func(context.Context, *Session, []string) error { return ErrQuit },
		},
	}
}

func helpWords(s *Session, _ []string) []string {
	var out []string
	for _, w := range s.words {
		out = append(out, w.Name)
	}
	return out
}

// pids proposes the living processes.
func pids(s *Session, _ []string) []string {
	var out []string
	for _, p := range s.View().Processes() {
		out = append(out, strconv.FormatUint(uint64(p.PID), 10))
	}
	return out
}

// places proposes mappings, by name and by address.
func places(s *Session, done []string) []string {
	sp, err := s.space(context.Background(), nil)
	if err != nil || len(done) > 0 {
		return nil
	}
	seen := map[string]bool{}
	var out []string
	for v := range sp.Mappings() {
		if n := v.Name; n != "" && !seen[n] && !strings.ContainsAny(n, " \t\n") {
			seen[n] = true
			out = append(out, n[strings.LastIndexByte(n, '/')+1:])
			if inner, ok := strings.CutPrefix(n, "["); ok {
				out = append(out, strings.TrimSuffix(inner, "]"))
			}
		}
		out = append(out, v.Start.String())
	}
	return out
}

// target is the process that an optional ID names, else the one in use.
func (s *Session) target(ctx context.Context, args []string) (*replay.Process, error) {
	pid := s.pid
	if len(args) > 0 {
		n, err := strconv.ParseUint(args[0], 10, 32)
		if err != nil || len(args) > 1 {
			return nil, fmt.Errorf("%q is not a process ID (threads lists them)", strings.Join(args, " "))
		}
		pid = uint32(n)
	}
	return s.Process(ctx, pid)
}

func (s *Session) space(ctx context.Context, args []string) (*replay.AddressSpace, error) {
	p, err := s.target(ctx, args)
	if err != nil {
		return nil, err
	}
	sp, err := p.Space()
	if err != nil || len(p.Threads) == 0 {
		return sp, err
	}
	var ev *format.Event
	if m := s.Moment(); m != nil {
		ev = m.Event
	}
	if r, err := s.Registers([]format.Thread{p.Thread(ev)}); err == nil {
		sp.NameRegisters(&r[0], s.View().Step, ev)
	}
	return sp, nil
}

func next(ctx context.Context, s *Session, args []string) error {
	n, err := countArg(args)
	if err != nil {
		return err
	}
	for range n {
		if err := s.Next(ctx); errors.Is(err, io.EOF) {
			return errors.New("this is the last step")
		} else if err != nil {
			return err
		}
		s.show()
	}
	return nil
}

func use(ctx context.Context, s *Session, args []string) error {
	if len(args) != 1 {
		return errors.New("use which process? use ID")
	}
	n, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("%q is not a process ID", args[0])
	}
	p, err := s.Process(ctx, uint32(n))
	if err != nil {
		return err
	}
	s.pid = uint32(n)
	fmt.Fprintf(s.Out, "process %d from now on\n", p.PID)
	return nil
}

func maps(ctx context.Context, s *Session, args []string) error {
	p, err := s.target(ctx, args)
	if err != nil {
		return err
	}
	return p.WriteMaps(s.Out, false)
}

// maxDump is how much mem shows at once.
const maxDump = 1 << 20

func mem(ctx context.Context, s *Session, args []string) error {
	sp, err := s.space(ctx, nil)
	if err != nil {
		return err
	}
	var r addr.Range
	switch len(args) {
	case 1:
		if r, err = replay.ParseRange(args[0], sp); err != nil {
			r, err = s.place(sp, args[0], "256")
		}
	case 2:
		r, err = s.place(sp, args[0], args[1])
	default:
		err = errors.New("which bytes? mem ADDR LEN")
	}
	if err != nil {
		return err
	}
	if r.Len() > maxDump {
		return fmt.Errorf("%s is too much to show: replay --mem writes it to a file", analyze.Size(r.Len()))
	}
	older, err := sp.WriteMem(s.Out, r, false)
	for _, c := range older {
		fmt.Fprintf(s.Out, "%s\n", c.Append(nil))
	}
	return err
}

// place is a stretch of memory that begins at an expression.
func (s *Session) place(sp *replay.AddressSpace, at, length string) (addr.Range, error) {
	a, err := s.scope(sp).Eval(at)
	if err != nil {
		return addr.Range{}, err
	}
	n, err := s.scope(sp).Eval(length)
	if err != nil {
		return addr.Range{}, err
	}
	r, ok := addr.Span(addr.Addr(a), n)
	if !ok || n == 0 {
		return addr.Range{}, fmt.Errorf("a length of %d bytes is not possible at %v", n, addr.Addr(a))
	}
	return r, nil
}

func regs(ctx context.Context, s *Session, args []string) error {
	p, err := s.target(ctx, args)
	if err != nil {
		return err
	}
	rs, err := s.Registers(p.Threads)
	if err != nil {
		return err
	}
	for i := range rs {
		if err := rs[i].Write(s.Out, s.View().Step); err != nil {
			return err
		}
	}
	return nil
}

func stack(ctx context.Context, s *Session, args []string) error {
	p, err := s.target(ctx, args)
	if err != nil {
		return err
	}
	sp, err := p.Space()
	if err != nil {
		return err
	}
	stacks, err := s.Stacks(ctx, sp, p.Threads)
	if err != nil {
		return err
	}
	for i := range stacks {
		if _, err := s.Out.Write(append(stacks[i].Append(nil, replay.StackNames), '\n')); err != nil {
			return err
		}
	}
	return nil
}

// screenWidth is what every terminal has.
const screenWidth = 80

// topMappings is how many mappings process lists.
const topMappings = 10

func process(ctx context.Context, s *Session, args []string) error {
	p, err := s.target(ctx, args)
	if err != nil {
		return err
	}
	sp, err := p.Space()
	if err != nil {
		return err
	}
	v := s.View()
	fmt.Fprintf(s.Out, "process %d at step %d, %v, threads: %d\n\n", p.PID, v.Step, p.Arch, len(p.Threads))
	write := func(v analyze.Value) error {
		if err := v.Sheet().Write(s.Out, analyze.Table); err != nil {
			return err
		}
		_, err := fmt.Fprintln(s.Out)
		return err
	}
	if err := write(analyze.Kinds(sp)); err != nil {
		return err
	}
	sh, err := analyze.SharingOf(p)
	if err != nil {
		return err
	}
	if err := write(sh); err != nil {
		return err
	}
	for _, source := range []string{"smaps_rollup", "status"} {
		text, at, ok, err := s.Sample(source, p.PID)
		if err != nil {
			return err
		}
		if ok {
			if err := write(analyze.Sampled(text, at)); err != nil {
				return err
			}
		}
	}
	top, err := s.costliest(v, p)
	if err != nil {
		return err
	}
	if left := top.Cut(topMappings); left > 0 {
		top.Notes = append(top.Notes, fmt.Sprintf("and %d smaller ones (maps)", left))
	}
	top.Total, top.Width = nil, screenWidth
	return top.Write(s.Out, analyze.Table)
}

// costliest are the mappings of p, those that cost most first: by resident
// memory if the process lives, else by size.
func (s *Session) costliest(v *replay.View, p *replay.Process) (*analyze.Sheet, error) {
	text, _, ok, err := s.Sample("smaps", p.PID)
	if err != nil {
		return nil, err
	}
	if ok {
		s.alive(p)
		sp, err := p.Space()
		if err != nil {
			return nil, err
		}
		return analyze.Smaps(text, v, sp).Sheet(), nil
	}
	top, err := analyze.Mappings(v, p)
	if err != nil {
		return nil, err
	}
	top.Title = "Largest mappings"
	return top.Sheet(), nil
}

// alive says what only a living process can tell: its page faults, and what its
// threads are doing.
func (s *Session) alive(p *replay.Process) {
	if text, _, ok, _ := s.Sample("stat", p.PID); ok {
		if f := statFields(text); len(f) > 9 {
			fmt.Fprintf(s.Out, "page faults: %s minor, %s major\n", f[7], f[9])
		}
	}
	for _, t := range p.Threads {
		if text, _, ok, _ := s.Sample("task/"+strconv.Itoa(int(t.TID))+"/stat", p.PID); ok {
			if f := statFields(text); len(f) > 0 {
				fmt.Fprintf(s.Out, "thread %d: %s\n", t.TID, cmp.Or(threadStates[f[0]], f[0]))
			}
		}
	}
	fmt.Fprintln(s.Out)
}

var threadStates = map[string]string{
	"R": "running", "S": "sleeping", "D": "waiting for a device", "t": "at a stop of memtrace's", "T": "stopped", "Z": "ended", "X": "ended",
}

// statFields are the fields of /proc/PID/stat after the program's name, which may
// hold anything.
func statFields(text []byte) []string {
	i := bytes.LastIndexByte(text, ')')
	return strings.Fields(string(text[i+1:]))
}

func system(_ context.Context, s *Session, _ []string) error {
	text, at, ok, err := s.Sample("meminfo", 0)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("the system's memory was not sampled up to this step")
	}
	return analyze.SystemAt(text, at).Sheet().Write(s.Out, analyze.Table)
}

func threads(_ context.Context, s *Session, _ []string) error {
	var own uint32
	if m := s.Moment(); m != nil {
		own = m.Thread.No
	}
	for _, p := range s.View().Processes() {
		fmt.Fprintf(s.Out, "process %d (%v, address space %d)\n", p.PID, p.Arch, p.MM)
		for _, t := range p.Threads {
			mark, ns := " ", ""
			if t.No == own {
				mark = "*"
			}
			if t.NSTID != 0 && t.NSTID != t.TID {
				ns = fmt.Sprintf(" (%d in its PID namespace)", t.NSTID)
			}
			fmt.Fprintf(s.Out, "%s thread %d%s\n", mark, t.TID, ns)
		}
	}
	return nil
}

// event tells everything about where the session stands.
func event(_ context.Context, s *Session, _ []string) error {
	m := s.Moment()
	if m == nil {
		return errors.New("this is before the first event")
	}
	ev := m.Event
	fmt.Fprintln(s.Out, s.Line())
	fmt.Fprintf(s.Out, "type     %s\n", replay.TypeName(ev.Record))
	if m.Thread.No != 0 {
		fmt.Fprintf(s.Out, "thread   %d of process %d\n", m.Thread.TID, m.Thread.TGID)
	}
	fmt.Fprintf(s.Out, "time     %s after the start\n", analyze.Span(ev.Time))
	switch r := ev.Record.(type) {
	case *format.Syscall:
		fmt.Fprintf(s.Out, "call     %v, number %d, args %#x\n", r.Arch, r.Nr, r.Args)
		if r.Returned {
			fmt.Fprintf(s.Out, "took     %s\n", analyze.Span(ev.Time-min(r.Enter, ev.Time)))
		} else {
			fmt.Fprintln(s.Out, "took     it never returned")
		}
		if r.IP != 0 {
			fmt.Fprintf(s.Out, "from     %#x, stack pointer %#x\n", r.IP, r.SP)
		}
	case *format.Check:
		if !r.OK {
			fmt.Fprintln(s.Out, strings.TrimRight(r.Diff, "\n"))
		}
	case *format.Poke:
		fmt.Fprintf(s.Out, "old      % x\nnew      % x\n", r.Old, r.New)
	}
	for _, c := range m.Changes {
		fmt.Fprintln(s.Out, "change   "+describe(c))
	}
	if n := pagesOf(ev); n > 0 {
		fmt.Fprintf(s.Out, "pages    %d captured\n", n)
	}
	return nil
}

func pagesOf(ev *format.Event) (n uint64) {
	for _, c := range ev.Changes {
		if p, ok := c.(*format.Pages); ok && p.What == format.PageData {
			n += p.N
		}
	}
	return n
}

// maxChanges is how many changes a step shows by itself.
const maxChanges = 4

// summarize says what an event did to mappings, in a few lines.
func summarize(m *replay.Moment) []string {
	var out []string
	for i, c := range m.Changes {
		if i == maxChanges && len(m.Changes) > maxChanges+1 {
			return append(out, fmt.Sprintf("and %d more changes (event)", len(m.Changes)-i))
		}
		out = append(out, describe(c))
	}
	return out
}

func describe(c replay.Change) string {
	v := c.VMA
	s := fmt.Sprintf("%s %v %s %s", c.Op, v.Range, v.Prot, v.Kind)
	switch c.Op {
	case vma.Protect:
		s = fmt.Sprintf("%s %v %s, was %s", c.Op, v.Range, v.Prot, c.Old.Prot)
	case vma.Remap:
		s += ", was at " + c.Old.Range.String()
	}
	if v.Name != "" {
		s += " " + replay.Escape(v.Name)
	}
	return s + " (" + analyze.Size(v.Len()) + ")"
}

func help(_ context.Context, s *Session, args []string) error {
	if len(args) > 0 {
		w, err := s.find(args[0])
		if err != nil {
			return err
		}
		fmt.Fprintf(s.Out, "%s %s\n%s\n", w.Name, w.Args, w.Short)
		if len(w.Aliases) > 0 {
			fmt.Fprintf(s.Out, "also: %s\n", strings.Join(w.Aliases, ", "))
		}
		if w.Long != "" {
			fmt.Fprintln(s.Out, w.Long)
		}
		return nil
	}
	const indent = 27
	for _, w := range s.words {
		name := w.Name
		if len(w.Aliases) > 0 {
			name += ", " + w.Aliases[0]
		}
		head := fmt.Sprintf("%-14s %-11s", name, w.Args)
		if len(head) >= indent { // the words go below
			fmt.Fprintln(s.Out, strings.TrimRight(head, " "))
			head = ""
		}
		for _, l := range analyze.Wrap(w.Short, 79-indent) {
			fmt.Fprintf(s.Out, "%-*s%s\n", indent, head, l)
			head = ""
		}
	}
	fmt.Fprintln(s.Out, "The beginning of a word will do. Enter repeats the last command.")
	return nil
}

// maxFound is how many places find lists.
const maxFound = 20

// find looks for bytes in what is captured of the process.
func find(ctx context.Context, s *Session, args []string) error {
	all := len(args) == 2 && args[1] == "all"
	if len(args) != 1 && !all {
		return errors.New(`find what? find "text", or find 0xHEX`)
	}
	want, err := replay.ParseBytes(args[0])
	if err != nil {
		return err
	}
	if all {
		log, ok := s.Target.(interface {
			FindAll(ctx context.Context, s *Session, want []byte) error
		})
		if !ok {
			return errors.New("what has happened is in the log: find all is for memtrace replay")
		}
		return log.FindAll(ctx, s, want)
	}
	sp, err := s.space(ctx, nil)
	if err != nil {
		return err
	}
	n := 0
	err = search(ctx, sp, want, func(a addr.Addr, asOf format.Step) bool {
		if n++; n > maxFound {
			fmt.Fprintf(s.Out, "and more\n")
			return false
		}
		name := ""
		if v, ok := sp.Set().Find(a); ok {
			name = cmp.Or(replay.Escape(v.Name), v.Kind.String())
		}
		fmt.Fprintf(s.Out, "%v in %s, as of step %d\n", a, name, asOf)
		return true
	})
	if err == nil && n == 0 {
		return errors.New("not in what is captured of this process")
	}
	return err
}

// search calls found for each place; a match may cross pages.
func search(ctx context.Context, sp *replay.AddressSpace, want []byte, found func(addr.Addr, format.Step) bool) error {
	var page [addr.PageSize]byte
	var carry []byte // the end of what was before
	var end addr.Addr
	var of format.Step
	for r, err := range sp.Pages(addr.Range{End: ^addr.Addr(0)}) {
		if err != nil {
			return err
		}
		if r.What != format.PageData && r.What != format.PageFile && !r.Mixed {
			continue
		}
		for i := range r.N {
			if err := ctx.Err(); err != nil {
				return err
			}
			at := r.Addr + addr.Addr(i<<addr.PageShift)
			parts, err := sp.Stretches(at, &page)
			if err != nil {
				return err
			}
			for _, x := range parts {
				if x.Err != nil { // a file that is not at hand
					continue
				}
				if x.Range.Start != end {
					carry, of = carry[:0], x.AsOf
				}
				of = min(of, x.AsOf)
				text := append(carry, page[x.Range.Start-at:x.Range.End-at]...)
				base := x.Range.Start - addr.Addr(len(carry))
				for from := 0; ; {
					k := bytes.Index(text[from:], want)
					if k < 0 {
						break
					}
					if !found(base+addr.Addr(from+k), of) {
						return nil
					}
					from += k + 1
				}
				carry = append([]byte(nil), text[len(text)-min(len(text), len(want)-1):]...)
				end = x.Range.End
				if len(carry) < len(text) {
					of = x.AsOf
				}
			}
		}
	}
	return nil
}
