package analyze

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay"
	"memtrace/replay/symbol"
)

// moment finds the process and the step that a report about one moment is
// about: the step asked for, else the last one of the range if the range was
// cut, else the process's peak.
func moment(ctx context.Context, t *replay.Trace, o Options) (*replay.View, *replay.Process, string, error) {
	at, why := o.To, ""
	last, _ := t.Last()
	switch {
	case o.At != nil:
		at = *o.At
	case o.To >= last && o.From == 0:
		lives, err := t.Lives(ctx)
		if err != nil {
			return nil, nil, "", err
		}
		for i := range lives {
			if l := &lives[i]; o.PID == 0 || l.PID == o.PID {
				at, why, o.PID = l.PeakStep, ", its peak", l.PID
				break
			}
		}
	}
	v, err := t.At(at)
	if err != nil {
		return nil, nil, "", err
	}
	p, err := t.Find(ctx, v, o.PID)
	return v, p, why, err
}

// Maps lists mappings, the largest first.
func Maps(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	v, p, why, err := moment(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r, err := Mappings(v, p, NewParts(v))
	if err != nil {
		return nil, err
	}
	r.Title = fmt.Sprintf("Mappings of process %d at step %d%s", p.PID, v.Step, why)
	sh, err := SharingOf(p)
	if err != nil {
		return nil, err
	}
	r.Parts = []*Result{sh}
	return r, r.Sort("size")
}

// Mappings lists the mappings of p in the order of their addresses.
func Mappings(v *replay.View, p *replay.Process, parts *Parts) (*Result, error) {
	s, err := p.Space()
	if err != nil {
		return nil, err
	}
	r := &Result{Report: "maps", Columns: []Column{
		{Key: "size", Title: "SIZE", Unit: Bytes}, {Key: "captured", Title: "CAPTURED", Unit: Bytes, Drop: 1}, {Key: "start", Title: "START", Unit: Address}, {Key: "end", Title: "END", Unit: Address, Fine: true},
		{Key: "perms", Title: "PERMS", Unit: Text}, {Key: "kind", Title: "KIND", Unit: Text, Drop: 2}, {Key: "part", Title: "PART", Unit: Text}, {Key: "offset", Title: "OFFSET", Unit: Bytes, Fine: true},
		{Key: "path", Title: "PATH", Unit: Text, Cut: keepEnd},
	}}
	var total uint64
	for m := range s.Mappings() {
		n, err := captured(s, m.Range)
		if err != nil {
			return nil, err
		}
		total += m.Len()
		r.Rows = append(r.Rows, []any{
			m.Len(), n, m.Start, m.End, m.Prot.String(), m.Kind.String(), parts.Of(s, m), m.Offset, m.Name,
		})
	}
	r.Total = []any{total, "", "", "", "", fmt.Sprintf("%d mappings", len(r.Rows)), "", "", ""}
	return r, nil
}

// captured is how many bytes of r the log holds.
func captured(s *replay.AddressSpace, r addr.Range) (uint64, error) {
	var n uint64
	var page [addr.PageSize]byte
	for run, err := range s.Pages(r) {
		if err != nil {
			return 0, err
		}
		if run.Mixed {
			parts, err := s.Stretches(run.Addr, &page)
			if err != nil {
				return 0, err
			}
			for _, x := range parts {
				if x.Err == nil {
					n += x.Range.Len()
				}
			}
			continue
		}
		if run.What == format.PageData || run.What == format.PageZero || run.What == format.PageFile {
			n += run.N << addr.PageShift
		}
	}
	return min(n, r.Len()), nil
}

// Parts names the parts of ELF files that mappings show, where the files can
// be read.
type Parts struct {
	view  *replay.View
	files map[string]*symbol.File // nil: cannot be read
}

// NewParts makes a Parts for a view.
func NewParts(v *replay.View) *Parts { return &Parts{view: v, files: map[string]*symbol.File{}} }

// Of names the part that m is: ".text", ".rodata +5" (and five smaller ones),
// ".bss". Where the file cannot be read it says in words what it likely is, and
// what is no file has no part.
func (p *Parts) Of(s *replay.AddressSpace, m vma.VMA) string {
	switch {
	case m.Kind == vma.AnonPrivate && m.Name == "" || m.Kind == vma.Heap:
		return p.bss(s, m)
	case m.Kind != vma.FilePrivate || !strings.HasPrefix(m.Name, "/"):
		return ""
	}
	f := p.file(m)
	if f == nil {
		return ""
	}
	return cmp.Or(f.Part(m.Offset, m.Len()), symbol.Guess(m.Prot.String()))
}

// bss says whether anonymous memory is the zero-initialised data of the file
// that is mapped right before it.
func (p *Parts) bss(s *replay.AddressSpace, m vma.VMA) string {
	before, ok := s.Set().Find(m.Start - 1)
	if !ok || before.Kind != vma.FilePrivate {
		return ""
	}
	f := p.file(before)
	if f == nil {
		return ""
	}
	if start, end, ok := f.BSS(before.Offset, uint64(before.Start)); ok &&
		m.Overlaps(addr.Range{Start: addr.Addr(start), End: addr.Addr(end)}) {
		return ".bss"
	}
	return ""
}

func (p *Parts) file(m vma.VMA) *symbol.File {
	key := fmt.Sprintf("%s %d:%d %d", m.Name, m.Dev.Major, m.Dev.Minor, m.Inode)
	f, ok := p.files[key]
	if !ok {
		if r, err := replay.OpenMapped(m, p.view.Start); err == nil {
			f, _ = symbol.Read(r) // a file that is no ELF file has no parts
			_ = r.Close()
		}
		p.files[key] = f
	}
	return f
}

// Sharing is the table PRIVATE/SHARED x ANONYMOUS/FILE-BACKED.
func Sharing(ctx context.Context, t *replay.Trace, o Options) (*Result, error) {
	v, p, why, err := moment(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r, err := SharingOf(p)
	if err == nil {
		r.Title = fmt.Sprintf("Memory of process %d at step %d%s", p.PID, v.Step, why)
	}
	return r, err
}

// SharingOf is that table of one process.
func SharingOf(p *replay.Process) (*Result, error) {
	s, err := p.Space()
	if err != nil {
		return nil, err
	}
	var n [2][2]uint64
	for m := range s.Mappings() {
		row, col := 0, 0
		if !m.Kind.Anonymous() {
			row = 1
		}
		if m.Prot&addr.Shared != 0 {
			col = 1
		}
		n[row][col] += m.Len()
	}
	return &Result{
		Report: "sharing",
		Columns: []Column{
			{Key: "memory", Title: "", Unit: Text}, {Key: "private", Title: "PRIVATE", Unit: Bytes}, {Key: "private_from", Title: "COMES FROM", Unit: Text},
			{Key: "shared", Title: "SHARED", Unit: Bytes}, {Key: "shared_from", Title: "COMES FROM", Unit: Text},
		},
		Rows: [][]any{
			{"anonymous", n[0][0], "malloc, stacks, .bss", n[0][1], "shm, memfd, fork"},
			{"file-backed", n[1][0], "programs, libraries", n[1][1], "mapped files"},
		},
		Total: []any{"total", n[0][0] + n[1][0], "", n[0][1] + n[1][1], ""},
	}, nil
}
