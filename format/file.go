package format

import (
	"errors"
	"io"
	"sort"
)

// FileKind says what a packed file is for.
type FileKind uint8

// The kinds of packed files.
const (
	PackedMapped FileKind = 1 // mappings mapped it
	PackedDebug  FileKind = 2 // it has the debug information of the file with its build id
	PackedNamed  FileKind = 3 // it has the build id of a file that mappings mapped, and so its names
)

// File is a file of the recorded machine, of which a log may have parts.
type File struct {
	Kind      FileKind
	BuildID   string // as bytes, "" for none
	GoBuildID string // likewise
	Path      string // as the name of a mapping
	Major     uint32 // the device
	Minor     uint32
	Inode     uint64
	Size      uint64 // of the whole file in bytes, 0 if nothing of it was packed
	Mtime     uint64 // of its last change, ns since 1970
	Extents   []Extent
}

// Extent is a part of a file.
type Extent struct {
	Off   uint64 // in the file
	Len   uint64
	Place uint64 // of its bytes, in the stream of all packed bytes
}

// fields go at the end, as those of records.
func (f *File) fields(x *fields) {
	x.u8("kind", (*uint8)(&f.Kind))
	x.str("build id", &f.BuildID)
	x.str("Go build id", &f.GoBuildID)
	x.str("path", &f.Path)
	x.u32("major", &f.Major)
	x.u32("minor", &f.Minor)
	x.u("inode", &f.Inode)
	x.u("size", &f.Size)
	x.u("ns of its last change", &f.Mtime)
	listOf(x, &f.Extents, 3, func(e *Extent, x *fields) {
		x.u("offset", &e.Off)
		x.u("bytes", &e.Len)
		x.u("place", &e.Place)
	})
}

// Packed is how many bytes of the file the log has.
func (f *File) Packed() (n uint64) {
	for _, e := range f.Extents {
		n += e.Len
	}
	return n
}

// ErrNotPacked says that the log does not have these bytes of a file.
var ErrNotPacked = errors.New("this part of the file was not packed")

// parseFiles decodes a FILE chunk. stream is how many packed bytes the log has.
func parseFiles(payload []byte, base uint64, count uint32, stream uint64) ([]File, error) {
	if base+uint64(count) > MaxFiles {
		return nil, overLimit("the number of packed files", base+uint64(count), MaxFiles)
	}
	c := cursor{b: payload}
	if uint64(count) > uint64(len(payload)) {
		return nil, corrupt("FILE chunk of %d bytes claims %d files", len(payload), count)
	}
	files := make([]File, count)
	for i := range files {
		x := fields{mode: reading, c: cursor{b: c.blob()}}
		f := &files[i]
		f.fields(&x)
		if x.c.bad || len(f.Path) > MaxName || len(f.BuildID) > MaxBuildID || len(f.GoBuildID) > MaxBuildID || int64(f.Size) < 0 {
			return nil, corrupt("packed file %d", base+uint64(i))
		}
		end := uint64(0)
		for _, e := range f.Extents {
			if e.Len == 0 || e.Off < end || e.Off > f.Size || e.Len > f.Size-e.Off || e.Place > stream || e.Len > stream-e.Place {
				return nil, corrupt("an extent of packed file %d", base+uint64(i))
			}
			end = e.Off + e.Len
		}
	}
	if c.bad || len(c.b) > 0 {
		return nil, corrupt("FILE chunk")
	}
	return files, nil
}

// fileTotals bounds what the packed files of a log come to.
type fileTotals struct{ extents, bytes uint64 }

// packedBudget is how many bytes the extents of a log of a size may have.
func packedBudget(size int64) uint64 { return minState + stateRatio*uint64(min(size, 1<<40)) }

func (t *fileTotals) add(files []File, budget uint64) error {
	for i := range files {
		t.extents += uint64(len(files[i].Extents))
		t.bytes += files[i].Packed() // each at most the stream, which is at most a file: no overflow
		if t.extents > MaxExtents {
			return overLimit("the extents of packed files", t.extents, MaxExtents)
		}
		if t.bytes > budget {
			return overBudget("the bytes of packed files", t.bytes, budget)
		}
	}
	return nil
}

// HasFiles says whether the log names files that were packed.
func (r *Reader) HasFiles() bool {
	n, err := r.count(TypeFile)
	return n > 0 || err != nil
}

// Files are the files that were packed with the log.
func (r *Reader) Files() ([]File, error) {
	n, err := r.count(TypeFile)
	if err != nil {
		return nil, err
	}
	stream, err := r.count(TypeFData)
	if err != nil {
		return nil, err
	}
	var list []File
	var totals fileTotals
	for uint64(len(list)) < n {
		e, err := r.x.holding(TypeFile, uint64(len(list)))
		if err != nil {
			return nil, err
		}
		b, err := r.read(e)
		if err != nil {
			return nil, err
		}
		files, err := parseFiles(b, e.base, e.count, stream)
		if err == nil {
			err = totals.add(files, packedBudget(r.size))
		}
		if err != nil {
			return nil, at(e.off, err)
		}
		list = append(list, files...)
	}
	return list, nil
}

// ReadFile reads bytes of a packed file as io.ReaderAt does: io.EOF at its end, and
// ErrNotPacked where the log does not have them.
func (r *Reader) ReadFile(f *File, p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := uint64(off) + uint64(n)
		if off < 0 || at >= f.Size {
			return n, io.EOF
		}
		i := sort.Search(len(f.Extents), func(i int) bool { return f.Extents[i].Off+f.Extents[i].Len > at })
		if i == len(f.Extents) || f.Extents[i].Off > at {
			return n, ErrNotPacked
		}
		x := f.Extents[i]
		part := p[n:min(uint64(len(p)), uint64(n)+x.Off+x.Len-at)]
		if err := r.stream(TypeFData, part, x.Place+at-x.Off); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// stream reads bytes of BLOB or FDATA chunks, from a place in the stream of all of them.
func (r *Reader) stream(t Type, p []byte, off uint64) error {
	for len(p) > 0 {
		e, err := r.x.holding(t, off)
		if err != nil {
			return err
		}
		b, err := r.cached(e)
		if err != nil {
			return err
		}
		n := copy(p, b[off-e.base:])
		p, off = p[n:], off+uint64(n)
	}
	return nil
}
