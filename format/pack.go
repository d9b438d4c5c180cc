package format

import (
	"crypto/sha256"
	"fmt"
	"io"

	"memtrace/format/addr"
)

// packPiece is how many bytes of files are compared with what was packed before: equal pieces
// are stored once.
const packPiece = 64 << 10

// Packer writes a log with parts of files behind what it had.
type Packer struct {
	o      *output
	info   *Info
	data   []byte // packed bytes that are not written yet
	place  uint64 // of the first of them
	seen   map[[sha256.Size]byte]uint64
	list   []byte // files that are not written yet, as in a FILE chunk
	listed uint32 // how many
	files  uint64 // how many are written
	totals fileTotals
}

// NewPacker copies the complete part of a log to w, for files to be added to it. What is at w is
// a log when Close has returned, and none before.
func NewPacker(r *Reader, w io.Writer) (*Packer, error) {
	old, err := r.Files()
	if err != nil {
		return nil, err
	}
	p := &Packer{seen: map[[sha256.Size]byte]uint64{}, files: uint64(len(old))}
	if err := p.totals.add(old, packedBudget(r.size)); err != nil {
		return nil, err
	}
	if p.place, err = r.count(TypeFData); err != nil {
		return nil, err
	}
	rd, err := openHeader(r.r, r.size, nil)
	if err != nil {
		return nil, err
	}
	if p.o, p.info, err = rd.another(w); err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, io.NewSectionReader(r.r, 0, p.o.off)); err != nil {
		return nil, fmt.Errorf("copy the log: %w", err)
	}
	return p, nil
}

// LeftOut is the error of a file that was not packed, because it could not be read or the log
// would have had too much. The others are not concerned.
type LeftOut struct{ Err error }

func (e *LeftOut) Error() string { return e.Err.Error() }

func (e *LeftOut) Unwrap() error { return e.Err }

// Add packs parts of a file, which it reads from src: ranges of bytes, of which those beyond
// f.Size do not count. When all is read it asks sure, if that is not nil, whether the file is
// still what f says.
func (p *Packer) Add(f File, src io.ReaderAt, parts *addr.Set, sure func() error) error {
	f.Extents = nil
	sum := uint64(0)
	for part := range parts.Within(addr.Range{End: addr.Addr(f.Size)}) {
		sum += part.Len()
	}
	if limit := packedBudget(p.o.off); sum > limit-min(limit, p.totals.bytes) {
		return &LeftOut{overBudget("the bytes of packed files", p.totals.bytes+sum, limit)}
	}
	piece := make([]byte, packPiece)
	for part := range parts.Within(addr.Range{End: addr.Addr(f.Size)}) {
		for at := part.Start; at < part.End; {
			end := min(part.End, (at+packPiece)&^(packPiece-1))
			b := piece[:end-at]
			if _, err := io.ReadFull(io.NewSectionReader(src, int64(at), int64(len(b))), b); err != nil {
				return &LeftOut{fmt.Errorf("read %s: %w", f.Path, err)}
			}
			place, err := p.store(b)
			if err != nil {
				return err
			}
			f.extend(Extent{uint64(at), uint64(len(b)), place})
			at = end
		}
	}
	if len(f.Extents) > MaxExtents/16 {
		return &LeftOut{overLimit("the extents of a file", uint64(len(f.Extents)), MaxExtents/16)}
	}
	if sure != nil {
		if err := sure(); err != nil {
			return &LeftOut{err}
		}
	}
	return p.name(&f)
}

// extend adds an extent behind the others.
func (f *File) extend(e Extent) {
	if n := len(f.Extents); n > 0 {
		if last := &f.Extents[n-1]; last.Off+last.Len == e.Off && last.Place+last.Len == e.Place {
			last.Len += e.Len
			return
		}
	}
	f.Extents = append(f.Extents, e)
}

// store gives bytes a place in the stream.
func (p *Packer) store(b []byte) (place uint64, err error) {
	sum := sha256.Sum256(b)
	if place, ok := p.seen[sum]; ok {
		return place, nil
	}
	if len(p.data)+len(b) > frameBytes {
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	place = p.place + uint64(len(p.data))
	p.seen[sum] = place
	p.data = append(p.data, b...)
	return place, nil
}

// flush writes the packed bytes that wait.
func (p *Packer) flush() error {
	if len(p.data) == 0 {
		return nil
	}
	err := p.chunk(chunk{typ: TypeFData, base: p.place, count: uint32(len(p.data))}, p.data)
	p.place += uint64(len(p.data))
	p.data = p.data[:0]
	return err
}

func (p *Packer) chunk(c chunk, payload []byte) error {
	b, err := p.o.pack(&c, payload, nil, 0)
	if err == nil {
		err = p.o.chunk(&c, b)
	}
	if err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

// name adds a file to the list.
func (p *Packer) name(f *File) error {
	if err := p.totals.add([]File{*f}, packedBudget(p.o.off)); err != nil {
		return &LeftOut{err}
	}
	if p.files+uint64(p.listed) >= MaxFiles {
		return &LeftOut{overLimit("the number of packed files", MaxFiles+1, MaxFiles)}
	}
	x := fields{mode: writing}
	f.fields(&x)
	if len(p.list)+len(x.b)+8 > MaxFileList {
		if err := p.commit(); err != nil {
			return err
		}
	}
	p.list = appendStr(p.list, x.b)
	p.listed++
	return nil
}

// commit writes the files of the list, and ends the group.
func (p *Packer) commit() error {
	if err := p.flush(); err != nil || p.listed == 0 {
		return err
	}
	err := p.chunk(chunk{typ: TypeFile, flags: flagCommit, base: p.files, count: p.listed}, p.list)
	p.files += uint64(p.listed)
	p.list, p.listed = p.list[:0], 0
	return err
}

// Close writes the end of the log. It says what is in it, and in Truncated whether the log that was copied
// was cut.
func (p *Packer) Close() (*Info, error) {
	if err := p.commit(); err != nil {
		return nil, err
	}
	if err := p.o.end(p.info); err != nil {
		return nil, fmt.Errorf("write the log: %w", err)
	}
	p.info.Size = p.o.off
	return p.info, nil
}

// CopyFiles writes the log r to w with the packed files of other logs behind it.
func CopyFiles(w io.Writer, r *Reader, from []*Reader) (*Info, error) {
	p, err := NewPacker(r, w)
	if err != nil {
		return nil, err
	}
	had := map[string]bool{} // parts of one run may have the same files
	for _, r := range from {
		files, err := r.Files()
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			id := f
			id.Extents = nil
			if n := fmt.Sprint(id, f.Packed()); had[n] {
				continue
			} else {
				had[n] = true
			}
			var parts addr.Set
			for _, e := range f.Extents {
				parts.Add(addr.Reach(addr.Addr(e.Off), e.Len))
			}
			if err := p.Add(f, &fileReader{r, &f}, &parts, nil); err != nil {
				return nil, err
			}
		}
	}
	return p.Close()
}

// fileReader reads a packed file.
type fileReader struct {
	r *Reader
	f *File
}

func (x *fileReader) ReadAt(b []byte, off int64) (int, error) { return x.r.ReadFile(x.f, b, off) }
