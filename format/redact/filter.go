package redact

import (
	"encoding/binary"
	"fmt"
	"slices"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

// Filter stands in front of a log and lets through what its policy allows. Like a
// format.Writer it is for one goroutine.
type Filter struct {
	w     *format.Writer
	pol   *Policy
	names *pseudonyms
	key   []byte
	// fetch reads a page of data that comes as a reference: of a log that is copied.
	fetch   func(ref format.PageRef, dst *[addr.PageSize]byte) error
	shift   shifter
	bufs    []format.Buf // scratch
	samples []format.Sample
}

// Header returns h as the log that a filter with this policy and key writes has it.
func (p *Policy) Header(h *format.Header, key []byte) (*format.Header, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	f := Filter{pol: p, names: newPseudonyms(key), key: key}
	c := *h
	c.Salt = [16]byte{}
	c.Redacted, c.Inventory = p.String(), ""
	var err error
	if h.Redacted != "" {
		before, err := FromHeader(h.Redacted)
		if err != nil {
			return nil, err
		}
		some, _ := p.keepsData()
		if len(before.data) > 0 && some && (p.mode[Data] != before.mode[Data] || !slices.EqualFunc(p.data, before.data, sameData)) {
			return nil, fmt.Errorf("the log has the data of some calls only (%s): keep the same, or no data", h.Redacted)
		}
		c.Redacted = p.after(before).String()
	}
	text := func(c Class, s string) string {
		b, e := f.text(c, s)
		if e != nil {
			err = e
		}
		return b
	}
	c.Kernel, c.Host, c.Dir = text(Host, h.Kernel), text(Host, h.Host), text(Host, h.Dir)
	c.Argv, c.Options = f.list(Argv, h.Argv), nil
	if p.mode[Options] == Keep {
		for _, o := range h.Options {
			c.Options = append(c.Options, text(Options, o))
		}
	}
	if p.ShiftTime {
		c.Start, c.Mono = shiftedTime(h.Start, key), 0
	}
	if p.mode[Host] != Keep {
		c.Mono = 0
	}
	if p.mode[Registers] != Keep {
		c.XSave = 0
	}
	c.NoPages = h.NoPages || p.mode[Pages] != Keep || p.mode[StacksMem] != Keep
	_, allData := p.keepsData()
	// What calls wrote before a log begins is not copied.
	c.NoCalls = h.Begin != (format.Begin{}) || h.Minor > 0 && !h.Calls || p.mode[Calls] != Keep || !allData
	return &c, err
}

// NewFilter is a filter in front of w, whose header must be of Policy.Header. Pseudonyms
// are made with the key.
func NewFilter(w *format.Writer, p *Policy, key []byte) *Filter {
	return &Filter{w: w, pol: p, names: newPseudonyms(key), key: key, shift: newShifter(p, key)}
}

// State is the state after the last event.
func (f *Filter) State() *format.State { return f.w.State() }

// Header is that of the log.
func (f *Filter) Header() *format.Header { return f.w.Header() }

// Flush puts all events so far where a crash of this process does not reach them.
func (f *Filter) Flush() error { return f.w.Flush() }

// Bytes is the size of the log so far.
func (f *Filter) Bytes() int64 { return f.w.Bytes() }

// ExpectPages says that pages will come.
func (f *Filter) ExpectPages() {
	if f.pol.mode[Pages] == Keep || f.pol.mode[StacksMem] == Keep {
		f.w.ExpectPages()
	}
}

// StackNodes is how many nodes the tree of stacks has.
func (f *Filter) StackNodes() int { return f.w.StackNodes() }

// Close ends the log.
func (f *Filter) Close(reason string) error { return f.w.Close(f.word(Messages, reason)) }

// kept is b without what the policy writes over.
func (f *Filter) kept(b []byte) ([]byte, error) {
	if len(f.pol.matches) == 0 || len(b) == 0 {
		return b, nil
	}
	out, ok := f.pol.overwrite(b)
	if !ok {
		return nil, fmt.Errorf("a regular expression of the rules also matches what it was written over with")
	}
	return out, nil
}

// text is a text of a class.
func (f *Filter) text(c Class, s string) (string, error) {
	switch {
	case s == "":
		return "", nil
	case f.pol.mode[c] != Keep:
		return Word, nil
	}
	b, err := f.kept([]byte(s))
	return string(b), err
}

// name is the name of a file, a descriptor or a mapping.
func (f *Filter) name(c Class, s string) (string, error) {
	if s == "" {
		return "", nil
	}
	switch f.pol.ofName(c, s) {
	case Keep:
		b, err := f.kept([]byte(s))
		return string(b), err
	case Pseudonym:
		return f.names.name(s), nil
	}
	return Word, nil
}

// words are those of the recorder itself, which tell nothing of the program.
var words = map[string]bool{
	"exec": true, "exit": true, "signal": true, "interval": true, "every": true, "syscall": true, "step": true, "attach": true,
	format.ReasonSweep: true, "interrupted": true, "detached": true, "max-events": true, "max-size": true, "max-time": true,
	"write error": true, "recovered": true, "failed": true, "cut": true,
	"meminfo": true, "vmstat": true, "pressure": true, "cgroup.current": true, "cgroup.events": true, "cgroup.max": true,
	"status": true, "statm": true, "smaps_rollup": true, "smaps": true, "cleared": true, "referenced": true, "perf.map": true, "vdso": true, Word: true, "": true,
}

// word is a text that stays if it is one of words, whatever becomes of its class.
func (f *Filter) word(c Class, s string) string {
	if words[s] {
		return s
	}
	s, err := f.text(c, s)
	if err != nil {
		return Word
	}
	return s
}

// list is a list of texts: as many as there were.
func (f *Filter) list(c Class, l []string) []string {
	out := slices.Clone(l)
	for i, s := range l {
		var err error
		if out[i], err = f.text(c, s); err != nil {
			out[i] = Word
		}
	}
	return out
}

// bytes are bytes of a class.
func (f *Filter) bytes(c Class, b []byte) ([]byte, error) {
	if f.pol.mode[c] != Keep {
		return nil, nil
	}
	return f.kept(b)
}

// Event writes an event and the changes before it.
func (f *Filter) Event(e *format.Event) (format.Step, error) {
	for _, c := range e.Changes {
		if err := f.Change(c); err != nil {
			return 0, err
		}
	}
	out := *e
	out.Changes = nil
	var err error
	if out.Regs, err = f.registers(e.Regs); err != nil {
		return 0, err
	}
	if out.Record, err = f.record(e.Record); err != nil {
		return 0, err
	}
	return f.w.Event(&out)
}

// registers are those of a thread, nil where they are not kept.
func (f *Filter) registers(regs []uint64) ([]uint64, error) {
	if f.pol.mode[Registers] != Keep {
		return nil, nil
	}
	if len(f.pol.matches) == 0 || len(regs) == 0 {
		return regs, nil
	}
	var b []byte
	for _, v := range regs {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b, err := f.kept(b)
	if err != nil {
		return nil, err
	}
	out := make([]uint64, len(regs))
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return out, nil
}

// record is what is left of a record.
func (f *Filter) record(r format.Record) (format.Record, error) {
	switch r := r.(type) {
	case *format.Syscall:
		return f.call(r)
	case *format.Signal:
		c := *r
		var err error
		c.Info, err = f.bytes(Siginfo, r.Info)
		return &c, err
	case *format.Exec:
		c := *r
		err := f.program(&c.Path, &c.Argv, &c.Auxv, &c.FDs)
		if err == nil {
			c.Called, err = f.name(Paths, r.Called)
		}
		return &c, err
	case *format.Attach:
		c := *r
		return &c, f.program(&c.Path, &c.Argv, &c.Auxv, &c.FDs)
	case *format.Snapshot:
		c := *r
		c.Reason = f.word(Messages, r.Reason)
		return &c, nil
	case *format.MemInfo:
		return f.memInfo(r)
	case *format.Detach:
		return &format.Detach{Reason: f.word(Messages, r.Reason)}, nil
	case *format.Lost:
		return &format.Lost{What: f.word(Messages, r.What)}, nil
	case *format.Outside:
		return &format.Outside{Until: r.Until, Why: f.word(Messages, r.Why)}, nil
	case *format.Check:
		return f.check(r)
	case *format.Poke:
		c := *r
		c.Addr = f.shift.addr(r.Addr)
		var err, err2 error
		c.Old, err = f.bytes(Data, r.Old)
		if c.New, err2 = f.bytes(Data, r.New); err == nil {
			err = err2
		}
		return &c, err
	case *format.Clone:
		c := *r
		c.Stack = f.shift.word(r.Stack)
		return &c, nil
	case *format.Exit, *format.Stop, *format.Redacted:
		return r, nil // numbers
	case *format.Unknown:
		return &format.Redacted{Was: r.Code}, nil
	}
	return nil, fmt.Errorf("redact: no rule for events of kind %v", r.Kind())
}

// program is what is said of a program that begins.
func (f *Filter) program(path *string, argv *[]string, auxv *[]byte, fds *[]format.FD) (err error) {
	if *path, err = f.name(Paths, *path); err != nil {
		return err
	}
	*argv = f.list(Argv, *argv)
	if *auxv, err = f.bytes(Auxv, *auxv); err != nil {
		return err
	}
	*fds = slices.Clone(*fds)
	for i := range *fds {
		fd := &(*fds)[i]
		if fd.Name, err = f.name(Paths, fd.Name); err != nil {
			return err
		}
	}
	return nil
}

func (f *Filter) check(r *format.Check) (format.Record, error) {
	c := *r
	var err error
	if c.Diff, err = f.text(MappingsNames, r.Diff); err != nil {
		return nil, err
	}
	if c.Maps, err = f.bytes(MappingsNames, r.Maps); err != nil {
		return nil, err
	}
	if !f.pol.plainMaps() {
		c.Sum = 0 // of a text that is another now; it would also say which
	}
	if f.pol.ShiftAddresses {
		c.Maps = nil
		if c.Diff != "" {
			c.Diff = Word
		}
	}
	return &c, nil
}

// plainMaps says whether mappings stay as they are.
func (p *Policy) plainMaps() bool {
	return p.mode[MappingsNames] == Keep && len(p.matches) == 0 && len(p.names) == 0 && !p.ShiftAddresses
}

func (f *Filter) memInfo(r *format.MemInfo) (format.Record, error) {
	f.samples = f.samples[:0]
	for _, s := range r.Samples {
		if f.pol.mode[System] != Keep {
			s.Data = nil
		}
		var err error
		if s.Data, err = f.kept(numberLines(s.Data)); err != nil {
			return nil, err
		}
		if !words[s.Source] {
			s.Source = Word
		}
		f.samples = append(f.samples, s)
	}
	return &format.MemInfo{Samples: f.samples}, nil
}

// call is what is left of a system call.
func (f *Filter) call(r *format.Syscall) (format.Record, error) {
	if f.pol.mode[Calls] != Keep {
		return &format.Redacted{Was: uint32(format.KindSyscall)}, nil
	}
	c := *r
	c.Blobs = nil
	f.bufs = f.bufs[:0]
	for i := range r.Bufs {
		b := r.Bufs[i]
		var err error
		switch class := bufferClass(r, &b); {
		case class == Paths:
			var s string
			if s, err = f.name(Paths, string(b.Data)); err == nil {
				b.Data = []byte(s)
			}
		case class == Calls || f.pol.ofBuffer(class, r) == Keep:
			b.Data, err = f.kept(b.Data)
		case class == Argv:
			var s string
			s, err = f.text(Argv, string(b.Data))
			b.Data = []byte(s)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		f.bufs = append(f.bufs, b)
	}
	c.Bufs = f.bufs
	f.shift.call(&c)
	return &c, nil
}

// bufferClass is the class of a buffer of a call.
func bufferClass(r *format.Syscall, b *format.Buf) Class {
	switch b.Arg {
	case call.BufRetName, call.BufFDName:
		return Paths
	case call.BufArgs:
		return Calls
	case call.BufArgv:
		return Argv
	}
	if !b.Out && b.Arg < format.MaxArgs {
		c := call.Call{Arch: r.Arch, Nr: r.Nr, Args: r.Args, Bufs: r.Bufs}
		if c.PathArgs()>>b.Arg&1 != 0 && b.Addr == addr.Addr(argument(r, b.Arg)) {
			return Paths
		}
	}
	return Data
}

// argument is argument i as the call took it.
func argument(r *format.Syscall, i uint8) uint64 {
	if r.Arch == arch.I386 {
		return uint64(uint32(r.Args[i]))
	}
	return r.Args[i]
}

// Change writes a change that belongs to the next event.
func (f *Filter) Change(c format.Change) error {
	switch c := c.(type) {
	case *format.Pages:
		return f.pages(c)
	case *format.VMASet:
		out := *c
		var err error
		if out.VMA.Name, err = f.name(MappingsNames, c.VMA.Name); err != nil {
			return err
		}
		if out.VMA, err = f.shift.mapping(out.VMA); err != nil {
			return err
		}
		return f.w.Change(&out)
	case *format.VMADel:
		return f.w.Change(&format.VMADel{MM: c.MM, Range: f.shift.span(c.Range)})
	case *format.VMAMove:
		return f.w.Change(&format.VMAMove{MM: c.MM, From: f.shift.addr(c.From), To: f.shift.addr(c.To), Len: c.Len})
	case *format.RegsSet:
		regs, err := f.registers(c.Regs)
		if err != nil || regs == nil {
			return err
		}
		return f.w.Change(&format.RegsSet{Thread: c.Thread, Regs: regs})
	case *format.XStateSet:
		if f.pol.mode[Registers] != Keep {
			return nil
		}
		data, err := f.kept(c.Data)
		if err != nil {
			return err
		}
		return f.w.Change(&format.XStateSet{Thread: c.Thread, Data: data})
	case *format.WrittenBefore:
		return nil // it points at bytes that are not copied
	case *format.Aged, *format.ThreadSet, *format.ThreadEnd, *format.MMNew, *format.MMDrop, *format.Confirm:
		return f.w.Change(c) // numbers
	}
	return fmt.Errorf("redact: no rule for changes of type %T", c)
}

// pageClass is the class of what lies at a in an address space.
func (f *Filter) pageClass(m *format.MM, a addr.Addr) (c Class, end addr.Addr) {
	v, ok := m.VMAs.Find(a)
	switch {
	case !ok:
		// Of no mapping that the log has: it may have been a stack.
		if f.pol.mode[StacksMem] == Keep {
			return Pages, a + addr.PageSize
		}
		return StacksMem, a + addr.PageSize
	case v.Kind == vma.MainStack || v.Kind == vma.ThreadStack:
		return StacksMem, v.End
	}
	return Pages, v.End
}

// fetchPages is how many pages are read of a log at a time.
const fetchPages = 64

// pages writes what pages have become.
func (f *Filter) pages(p *format.Pages) error {
	m := f.w.State().MMs[p.MM]
	if f.shift.by > 0 {
		c := *p
		c.Addr = f.shift.addr(p.Addr)
		p = &c
	}
	if p.What != format.PageData || m == nil {
		return f.w.Change(p)
	}
	for i := uint64(0); i < p.N; {
		at := p.Addr + addr.Addr(i<<addr.PageShift)
		class, end := f.pageClass(m, at)
		n := min(p.N-i, max(1, uint64(end-at)>>addr.PageShift), fetchPages)
		part := format.Pages{MM: p.MM, Addr: at, N: n, What: format.PageData}
		if err := f.pagesPart(&part, p, i, f.pol.mode[class] == Keep); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// pagesPart writes part, which is p from page i on.
func (f *Filter) pagesPart(part, p *format.Pages, i uint64, keep bool) error {
	n := part.N
	if len(p.Data) > 0 {
		part.Data = p.Data[i<<addr.PageShift:][:n<<addr.PageShift]
	} else {
		part.Refs = p.Refs[i:][:n]
	}
	if keep && part.Data == nil && !slices.ContainsFunc(part.Refs, format.PageRef.Redacted) {
		part.Data = make([]byte, n<<addr.PageShift)
		for k, ref := range part.Refs {
			if err := f.fetch(ref, (*[addr.PageSize]byte)(part.Data[k<<addr.PageShift:])); err != nil {
				return err
			}
		}
	}
	if keep && part.Data != nil {
		var err error
		if part.Data, err = f.keptPages(part.Data); err != nil {
			return err
		}
		part.Refs = nil
		return f.w.Change(part)
	}
	refs := make([]format.PageRef, n)
	for k := range refs {
		refs[k] = f.reference(part, k)
	}
	part.Data, part.Refs = nil, refs
	return f.w.Change(part)
}

// keptPages writes over what matches in pages, also over the border between two.
func (f *Filter) keptPages(b []byte) ([]byte, error) {
	if len(f.pol.matches) == 0 {
		return b, nil
	}
	b, err := f.kept(b)
	for i := 0; err == nil && i < len(b); i += addr.PageSize {
		// A page alone may match where it does not with its neighbours.
		var page []byte
		if page, err = f.kept(b[i:][:addr.PageSize]); err == nil && &page[0] != &b[i] {
			b = slices.Clone(b)
			copy(b[i:], page)
		}
	}
	return b, err
}

// patchID tells references to patches from those to whole pages.
const patchID = 1 << 56

// reference stands for the contents of a page of part: of equal contents the same.
func (f *Filter) reference(part *format.Pages, k int) format.PageRef {
	if part.Data != nil && part.Refs == nil {
		return format.RedactedRef(mac(f.key, "page", part.Data[k<<addr.PageShift:][:addr.PageSize]))
	}
	ref := part.Refs[k]
	if ref.Redacted() {
		return ref
	}
	return format.RedactedRef(uint64(ref>>1) | uint64(ref&1)*patchID)
}

// Ref writes a reference to a page.
func (f *Filter) Ref(r *format.Ref) error {
	c := *r
	c.Page, c.IP = f.shift.addr(r.Page), f.shift.addr(r.IP)
	return f.w.Ref(&c)
}

// Phase writes that a phase of references ends.
func (f *Filter) Phase(p *format.Phase) error { return f.w.Phase(f.shift.phase(p)) }

// Module writes a module.
func (f *Filter) Module(m *format.Module) (format.ModuleNo, error) {
	c := *m
	var err error
	if c.Path, err = f.name(MappingsNames, m.Path); err != nil {
		return 0, err
	}
	if f.pol.ofName(MappingsNames, m.Path) != Keep || f.pol.matched([]byte(m.BuildID)) || f.pol.matched([]byte(m.GoBuildID)) {
		// They say which file it is as well as its name does.
		c.BuildID, c.GoBuildID, c.Size, c.Mtime = "", "", 0, 0
	}
	f.shift.module(&c)
	return f.w.Module(&c)
}

// Stack is the number of a stack.
func (f *Filter) Stack(frames []format.RawFrame, caller format.StackNode, end format.StackEnd) (format.StackNode, error) {
	return f.w.Stack(f.shift.frames(frames), caller, end)
}

// Text writes a text, if symbols are kept.
func (f *Filter) Text(t *format.Text) error {
	if f.pol.mode[Names] != Keep {
		return nil
	}
	c := *t
	if !words[t.Name] {
		c.Name = Word
	}
	var err error
	if c.Data, err = f.kept(t.Data); err != nil {
		return err
	}
	return f.w.Text(&c)
}
