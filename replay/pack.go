package replay

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/replay/symbol"
)

// PackFiles says what of mapped files is packed.
type PackFiles uint8

// What is packed.
const (
	PackCode   PackFiles = iota // ELF files, and of others what is code or little
	PackAll                     // all files
	PackNone                    // which files there were
	PackStacks                  // of ELF files what names, lines and call stacks take
)

// littleData is how many bytes of a file that is no ELF file are packed with PackCode, if they
// are no code.
const littleData = 1 << 20

// errRedacted is the error of packing a log that others may see.
var errRedacted = errors.New("it is redacted: with files it would have what was taken out of it")

// PackOptions say what is packed.
type PackOptions struct {
	Files PackFiles
	Debug bool // separate debug files too
}

// MappedFileInfo is a file that programs of a log mapped, and where it is now.
type MappedFileInfo struct {
	Path    string
	BuildID string // in hexadecimal, "" if it is not known
	Debug   bool   // it is a separate debug file
	Named   bool   // what is packed has its build id, and gives names only
	Size    uint64 // of the whole file in bytes, 0 if it is not known
	Packed  uint64 // bytes of it that are in the log
	Missing string // why it is neither in the log nor surely on this machine, else ""
}

// use is how the programs of a log used a file.
type use struct {
	key         fileKey
	code, pages addr.Set // offsets: what was mapped executable, and what the log knows to be as in the file
	places      []living // where it is mapped at the end of the log
}

// living is where a process has a file mapped.
type living struct {
	pid int
	addr.Range
}

// deleted is behind the name of a file that has lost it.
const deleted = " (deleted)"

// open opens the file if it is still the same one, also where it is no more than mapped.
func (u *use) open(start time.Time) (*MappedFile, error) {
	f, err := openMapped(u.key, start)
	if err == nil || len(u.places) == 0 {
		return f, err
	}
	f, lerr := openLiving(u.key, u.places, start)
	if lerr != nil {
		return nil, fmt.Errorf("%w, and %w", err, lerr)
	}
	return f, nil
}

// uses are the files that the programs of a log mapped, in the order of their first mapping.
func (t *Trace) uses(ctx context.Context) (list []*use, err error) {
	by := map[fileKey]*use{}
	var last *format.State
	for m, err := range t.Walk(0, max(t.Steps(), 1)-1) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		last = m.State
		for _, c := range m.Event.Changes {
			switch c := c.(type) {
			case *format.VMASet:
				v := c.VMA
				if !v.File() || !strings.HasPrefix(v.Name, "/") || v.Prot&addr.Exec == 0 && withoutFile(v.Name) {
					continue
				}
				k := fileKey{v.Name, v.Dev, v.Inode}
				if by[k] == nil {
					by[k] = &use{key: k}
					list = append(list, by[k])
				}
				if v.Prot&addr.Exec != 0 {
					by[k].code.Add(addr.Reach(addr.Addr(v.Offset), v.Len()))
				}
			case *format.Pages:
				mm := m.State.MMs[c.MM]
				if c.What != format.PageFile || mm == nil {
					continue
				}
				r := addr.Reach(c.Addr, c.N<<addr.PageShift)
				for v := range mm.VMAs.Overlapping(r) {
					if u := by[fileKey{v.Name, v.Dev, v.Inode}]; u != nil {
						part := v.Slice(r)
						u.pages.Add(addr.Reach(addr.Addr(part.Offset), part.Len()))
					}
				}
			}
		}
	}
	if last != nil {
		for _, th := range last.Threads {
			mm := last.MMs[th.MM]
			if th.TID != th.TGID || mm == nil {
				continue
			}
			for v := range mm.VMAs.All() {
				if u := by[fileKey{v.Name, v.Dev, v.Inode}]; u != nil {
					u.places = append(u.places, living{int(th.TGID), v.Range})
				}
			}
		}
	}
	return list, nil
}

// withoutFile reports whether the kernel gives this name to memory that never was a file with one.
func withoutFile(name string) bool {
	return strings.HasSuffix(name, deleted) && (strings.HasPrefix(name, "/memfd:") || strings.HasPrefix(name, "/SYSV") || name == "/dev/zero"+deleted)
}

// HasFiles says whether the log names files that were packed.
func (t *Trace) HasFiles() bool { return t.r.HasFiles() }

// MappedFiles lists the files that programs of the log mapped, and debug files that it has.
func (t *Trace) MappedFiles(ctx context.Context) (list []MappedFileInfo, err error) {
	uses, err := t.uses(ctx)
	if err != nil {
		return nil, err
	}
	packed := t.files.packed
	if err := packed.load(); err != nil {
		return nil, err
	}
	byPath := map[string]*format.File{} // of those that give names only
	for id, f := range packed.ids {
		if id.kind == format.PackedNamed {
			byPath[f.Path] = f
		}
	}
	for _, u := range uses {
		i := MappedFileInfo{Path: u.key.name}
		if f := packed.mapped[u.key]; f != nil {
			i.Size, i.Packed, i.BuildID = f.Size, f.Packed(), idText(f)
		} else if f := byPath[u.key.name]; f != nil {
			i.Size, i.Packed, i.BuildID, i.Named = f.Size, f.Packed(), idText(f), true
		} else if f, err := u.open(t.Header().Start); err != nil {
			i.Missing = err.Error()
		} else {
			id, goID, _ := symbol.BuildIDs(f)
			i.Size, i.BuildID = uint64(f.Size()), hex.EncodeToString([]byte(cmp.Or(id, goID)))
			_ = f.Close()
		}
		list = append(list, i)
	}
	for id, f := range packed.ids {
		if id.kind == format.PackedDebug {
			list = append(list, MappedFileInfo{Path: f.Path, BuildID: idText(f), Debug: true, Size: f.Size, Packed: f.Packed()})
		}
	}
	slices.SortStableFunc(list, func(a, b MappedFileInfo) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.BuildID, b.BuildID))
	})
	return list, nil
}

func idText(f *format.File) string { return hex.EncodeToString([]byte(cmp.Or(f.BuildID, f.GoBuildID))) }

// packing is the packing of a log.
type packing struct {
	t      *Trace
	p      *format.Packer
	o      PackOptions
	finder *symbol.Finder
	builds map[fileKey]*format.Module // files whose build ids the log has
	frames map[fileKey]*addr.Set      // the code that call stacks go through, with PackStacks
	list   []MappedFileInfo
}

// modules finds the files whose build ids the log has.
func (x *packing) modules() error {
	x.builds = map[fileKey]*format.Module{}
	n, err := x.t.r.Modules()
	if err != nil {
		return err
	}
	for no := range n {
		m, err := x.t.r.Module(format.ModuleNo(no + 1))
		if err != nil {
			return err
		}
		if m.Class == format.ModuleELF && m.BuildID+m.GoBuildID != "" {
			x.builds[fileKey{m.Path, vma.Dev{Major: m.Major, Minor: m.Minor}, m.Inode}] = m
		}
	}
	return nil
}

// frameCode is how much code before and behind a frame is packed with PackStacks: most functions have
// less.
const frameCode = addr.PageSize

// stacks finds the code that call stacks go through.
func (x *packing) stacks(ctx context.Context) error {
	x.frames = map[fileKey]*addr.Set{}
	n, err := x.t.r.Stacks()
	if err != nil {
		return err
	}
	for i := range n {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		f, _, err := x.t.r.StackFrame(format.FirstNode + format.StackNode(i))
		if err != nil {
			return err
		}
		if f.Mod == nil || f.Mod.Class != format.ModuleELF {
			continue
		}
		k := fileKey{f.Mod.Path, vma.Dev{Major: f.Mod.Major, Minor: f.Mod.Minor}, f.Mod.Inode}
		if x.frames[k] == nil {
			x.frames[k] = new(addr.Set)
		}
		page := addr.Addr(f.Offset) &^ (addr.PageSize - 1)
		x.frames[k].Add(addr.Range{Start: page - min(page, frameCode), End: page + addr.PageSize + frameCode})
	}
	return nil
}

// Pack writes the log to w, with parts of the files that its programs mapped. It says which
// files there were, and what is in the log that was written.
func (t *Trace) Pack(ctx context.Context, w io.Writer, o PackOptions) ([]MappedFileInfo, *format.Info, error) {
	if t.Header().Redacted != "" {
		return nil, nil, errRedacted
	}
	uses, err := t.uses(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := t.files.packed.load(); err != nil {
		return nil, nil, err
	}
	p, err := format.NewPacker(t.r, w)
	if err != nil {
		return nil, nil, err
	}
	x := packing{t: t, p: p, o: o, finder: t.symbols.finder()}
	if err := x.modules(); err != nil {
		return nil, nil, err
	}
	if o.Files == PackStacks {
		if err := x.stacks(ctx); err != nil {
			return nil, nil, err
		}
	}
	for _, u := range uses {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		if err := x.mapped(u); err != nil {
			return nil, nil, err
		}
	}
	if err := x.debug(ctx); err != nil {
		return nil, nil, err
	}
	info, err := p.Close()
	return x.list, info, err
}

// mapped packs a file that was mapped.
func (x *packing) mapped(u *use) error {
	i := MappedFileInfo{Path: u.key.name}
	if f := x.t.files.packed.mapped[u.key]; f != nil && (x.o.Files != PackAll || f.Packed() == f.Size) {
		i.Size, i.Packed, i.BuildID = f.Size, f.Packed(), idText(f)
		x.list = append(x.list, i)
		return nil
	}
	f := format.File{Kind: format.PackedMapped, Path: u.key.name, Major: u.key.dev.Major, Minor: u.key.dev.Minor, Inode: u.key.inode}
	err := x.contents(&f, u, &i)
	if out := new(format.LeftOut); errors.As(err, &out) {
		i.Missing, i.Packed, err = out.Error(), 0, nil
		if m := x.builds[u.key]; m != nil && x.o.Files != PackNone {
			err = x.named(m, &i)
		}
	}
	if err == nil && (i.Packed == 0 || i.Named) {
		f.Size, f.Mtime = 0, 0
		err = x.p.Add(f, nil, new(addr.Set), nil)
	}
	x.list = append(x.list, i)
	return err
}

// named packs a file that is not surely the one that was mapped, but has its build id.
func (x *packing) named(m *format.Module, i *MappedFileInfo) error {
	i.BuildID = hex.EncodeToString([]byte(cmp.Or(m.BuildID, m.GoBuildID)))
	r, err := x.finder.File(symbol.Wanted{BuildID: hex.EncodeToString([]byte(m.BuildID)), GoID: hex.EncodeToString([]byte(m.GoBuildID)), Path: m.Path, Size: m.Size})
	if err != nil {
		return nil // i says that it is missing
	}
	defer r.Close()
	d, ok := r.(File)
	if !ok {
		return nil
	}
	i.Size, i.Packed, i.Named = uint64(d.Size()), uint64(d.Size()), true
	if _, packed := r.(*packedFile); packed {
		return nil
	}
	f := format.File{Kind: format.PackedNamed, BuildID: m.BuildID, GoBuildID: m.GoBuildID, Path: m.Path, Size: uint64(d.Size())}
	parts := addr.SetOf(addr.Range{End: addr.Addr(f.Size)})
	err = x.p.Add(f, d, &parts, nil)
	if out := new(format.LeftOut); errors.As(err, &out) {
		i.Packed, i.Named, err = 0, false, nil
	}
	return err
}

// contents packs what is wanted of a file, if it is here.
func (x *packing) contents(f *format.File, u *use, i *MappedFileInfo) error {
	start := x.t.Header().Start
	r, err := u.open(start)
	if err != nil {
		return &format.LeftOut{Err: err}
	}
	defer r.Close()
	isELF := false
	f.BuildID, f.GoBuildID, isELF = symbol.BuildIDs(r)
	f.Size, f.Mtime = uint64(r.Size()), r.mtime
	i.Size, i.BuildID = f.Size, idText(f)
	var parts addr.Set
	switch {
	case x.o.Files == PackNone:
		return nil
	case x.o.Files == PackStacks && isELF:
		names, ok := symbol.Parts(r)
		if !ok {
			names.Add(addr.Range{End: addr.Addr(f.Size)})
		}
		parts.AddSet(names)
		if code := x.frames[u.key]; code != nil {
			parts.AddSet(*code)
		}
	case x.o.Files == PackStacks:
		return nil
	case x.o.Files == PackAll, isELF:
		parts.Add(addr.Range{End: addr.Addr(f.Size)})
	default:
		parts.AddSet(u.code)
		if u.pages.Len() <= littleData {
			parts.AddSet(u.pages)
		}
	}
	for part := range parts.Within(addr.Range{End: addr.Addr(f.Size)}) {
		i.Packed += part.Len()
	}
	if i.Packed == 0 {
		return nil
	}
	return x.p.Add(*f, r, &parts, func() error {
		again, err := u.open(start)
		if err != nil {
			return err
		}
		return again.Close()
	})
}

// debug packs the separate debug files of what was mapped, or lists them.
func (x *packing) debug(ctx context.Context) error {
	had := map[string]bool{}
	for _, i := range x.list { // it grows
		if err := ctx.Err(); err != nil {
			return err
		}
		if i.BuildID == "" || had[i.BuildID] {
			continue
		}
		had[i.BuildID] = true
		if err := x.debugOf(&i); err != nil {
			return err
		}
	}
	return nil
}

// debugOf packs the debug file of one file, or lists it without what was packed.
func (x *packing) debugOf(i *MappedFileInfo) error {
	r, id := x.finder.DebugFile(symbol.Wanted{BuildID: i.BuildID, Path: i.Path})
	if r == nil {
		return nil
	}
	defer r.Close()
	d, ok := r.(File)
	if _, packed := r.(*packedFile); !ok || packed || id == "" {
		return nil
	}
	f := format.File{Kind: format.PackedDebug, Path: i.Path, BuildID: id, Size: uint64(d.Size())}
	if m, ok := r.(*MappedFile); ok { // not out of a server's answer
		f.Path, f.Mtime = m.name, m.mtime
	}
	info := MappedFileInfo{Path: f.Path, BuildID: i.BuildID, Debug: true, Size: f.Size}
	if !x.o.Debug {
		x.list = append(x.list, info)
		return nil
	}
	parts := addr.SetOf(addr.Range{End: addr.Addr(f.Size)})
	info.Packed = f.Size
	err := x.p.Add(f, d, &parts, nil)
	if out := new(format.LeftOut); errors.As(err, &out) {
		info.Missing, info.Packed, err = out.Error(), 0, nil
	}
	x.list = append(x.list, info)
	return err
}
