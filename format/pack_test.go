package format

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"memtrace/format/addr"
)

// packed adds files to a log: one with a hole, one that is equal to it, one without contents.
func packed(t testing.TB, log []byte, w io.Writer) (data []byte, err error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 1))
	data = make([]byte, 3*packPiece+100)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	p, err := NewPacker(openLog(t, log), w)
	if err != nil {
		return nil, err
	}
	a := File{Kind: PackedMapped, BuildID: "\x01\x02", Path: "/lib/a", Major: 8, Minor: 1, Inode: 7, Size: uint64(len(data)), Mtime: 5}
	parts := addr.SetOf(addr.Range{Start: 4096, End: packPiece}, addr.Range{Start: 2 * packPiece, End: 9 * packPiece})
	b, all := a, addr.SetOf(addr.Range{End: 9 * packPiece})
	b.Path, b.Inode = "/lib/b", 8
	no := errors.New("it changed")
	for _, x := range []struct {
		f    File
		in   []byte
		part *addr.Set
		sure error
		want error
	}{
		{a, data, &parts, nil, nil},
		{b, data, &all, nil, nil},
		{File{Kind: PackedMapped, Path: "/gone"}, nil, new(addr.Set), nil, nil},
		{b, data[:5000], &all, nil, io.ErrUnexpectedEOF},
		{b, data, &all, no, no},
		{File{Kind: PackedMapped, Path: "/huge", Size: 1 << 40}, data, &addr.Set{}, nil, nil},
	} {
		err := p.Add(x.f, bytes.NewReader(x.in), x.part, func() error { return x.sure })
		if left := new(LeftOut); x.want != nil && errors.As(err, &left) && errors.Is(err, x.want) {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	huge := addr.SetOf(addr.Range{End: 1 << 40})
	if err := p.Add(File{Path: "/huge", Size: 1 << 40}, bytes.NewReader(data), &huge, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("a file of a terabyte: %v", err)
	}
	_, err = p.Close()
	return data, err
}

// TestPack packs files, and reads them back; the rest of the log is as it was.
func TestPack(t *testing.T) {
	for _, log := range append(seedLogs(t)[:4], writeLog(t, everything(), nil, 5)[:3000]) {
		var out bytes.Buffer
		data, err := packed(t, log, &out)
		if err != nil {
			t.Fatal(err)
		}
		b := out.Bytes()
		if info, err := Verify(bytes.NewReader(b), int64(len(b)), nil, nil); err != nil || info.Truncated || info.Size != int64(len(b)) {
			t.Fatalf("the log that was packed: %v, %+v", err, info)
		}
		was, r := openLog(t, log), openLog(t, b)
		if r.Steps() != was.Steps() || r.Header().Salt != was.Header().Salt {
			t.Errorf("%d steps of %d", r.Steps(), was.Steps())
		}
		files, err := r.Files()
		if err != nil || len(files) != 4 || files[0].Path != "/lib/a" || files[1].Path != "/lib/b" || files[2].Path != "/gone" || files[2].Packed() != 0 {
			t.Fatalf("files %+v, %v", files, err)
		}
		if n, _ := r.count(TypeFData); n > uint64(len(data)+packPiece) {
			t.Errorf("%d bytes were stored of twice %d", n, len(data))
		}
		got := make([]byte, len(data)+10)
		if n, err := r.ReadFile(&files[1], got, 0); n != len(data) || err != io.EOF || !bytes.Equal(got[:n], data) {
			t.Errorf("the whole file: %d bytes, %v", n, err)
		}
		for _, x := range []struct {
			off, n int64
			want   int64
			err    error
		}{{0, 10, 0, ErrNotPacked}, {4096, 10, 10, nil}, {packPiece - 3, 10, 3, ErrNotPacked}, {2 * packPiece, packPiece + 50, packPiece + 50, nil}, {int64(len(data)), 1, 0, io.EOF}, {-1, 1, 0, io.EOF}} {
			n, err := r.ReadFile(&files[0], got[:x.n], x.off)
			if int64(n) != x.want || !errors.Is(err, x.err) || err == nil && !bytes.Equal(got[:n], data[x.off:x.off+x.want]) {
				t.Errorf("%d bytes at %d: %d, %v", x.n, x.off, n, err)
			}
		}
		var twice bytes.Buffer
		if _, err := packed(t, b, &twice); err != nil {
			t.Fatal(err)
		}
		if files, err := openLog(t, twice.Bytes()).Files(); err != nil || len(files) != 8 {
			t.Errorf("packed twice: %d files, %v", len(files), err)
		}
		var again bytes.Buffer
		if _, err := Recover(bytes.NewReader(b), int64(len(b)), nil, &again); err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Errorf("recovery changes a packed log: %v", err)
		}
		// Cut anywhere in what was added, it is the log that it was.
		for n := len(b) - 1; n > int(was.Info().Size); n -= (len(b) - n) * 2 {
			r := openLog(t, b[:n])
			if _, err := r.Files(); err != nil || !r.Truncated() || r.Steps() != was.Steps() {
				t.Errorf("cut at %d: %d steps, %v", n, r.Steps(), err)
			}
		}
	}
}

// TestPackFullDisk packs to a disk with too little room.
func TestPackFullDisk(t *testing.T) {
	log := seedLogs(t)[0]
	var out bytes.Buffer
	if _, err := packed(t, log, &out); err != nil {
		t.Fatal(err)
	}
	for room := 0; room < out.Len(); room += out.Len()/40 + 1 {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := packed(t, log, &fullDisk{f, room}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("room for %d bytes of %d: %v", room, out.Len(), err)
		}
		f.Close()
	}
}

// TestPackHostile reads lists of files that lie.
func TestPackHostile(t *testing.T) {
	list := func(files ...File) []byte {
		var b []byte
		for i := range files {
			x := fields{mode: writing}
			files[i].fields(&x)
			b = appendStr(b, x.b)
		}
		return b
	}
	of := func(size uint64, e ...Extent) []byte { return list(File{Size: size, Extents: e}) }
	for name, x := range map[string]struct {
		payload []byte
		base    uint64
		count   uint32
		err     error
	}{
		"right":           {of(1<<50, Extent{1 << 40, 10, 5}), 0, 1, nil},
		"empty extent":    {of(9, Extent{0, 0, 0}), 0, 1, ErrCorrupt},
		"overlap":         {of(99, Extent{0, 10, 0}, Extent{9, 3, 0}), 0, 1, ErrCorrupt},
		"beyond the file": {of(9, Extent{0, 10, 0}), 0, 1, ErrCorrupt},
		"wraps":           {of(1<<62, Extent{1, 1<<64 - 1, 0}), 0, 1, ErrCorrupt},
		"beyond the data": {of(1<<40, Extent{0, 1 << 30, 0}), 0, 1, ErrCorrupt},
		"place":           {of(1<<40, Extent{0, 2, 19}), 0, 1, ErrCorrupt},
		"negative size":   {of(1 << 63), 0, 1, ErrCorrupt},
		"long build id":   {list(File{BuildID: string(make([]byte, MaxBuildID+1))}), 0, 1, ErrCorrupt},
		"long path":       {list(File{Path: string(make([]byte, MaxName+1))}), 0, 1, ErrCorrupt},
		"too many":        {of(1), MaxFiles, 1, ErrLimit},
		"claims more":     {of(1), 0, 1 << 20, ErrLimit},
		"too few":         {of(1), 0, 2, ErrCorrupt},
		"rest":            {append(of(1), 0), 0, 1, ErrCorrupt},
	} {
		if _, err := parseFiles(x.payload, x.base, x.count, 20); !errors.Is(err, x.err) {
			t.Errorf("%s: %v, not %v", name, err, x.err)
		}
	}
	var totals fileTotals
	if err := totals.add([]File{{Extents: slices.Repeat([]Extent{{0, 1 << 20, 0}}, 1000)}}, 999<<20); !errors.Is(err, ErrLimit) {
		t.Errorf("a gigabyte that is a megabyte a thousand times: %v", err)
	}
	if err := totals.add([]File{{Extents: make([]Extent, MaxExtents)}}, 1<<60); !errors.Is(err, ErrLimit) {
		t.Errorf("too many extents: %v", err)
	}
	long := oneChunk(chunk{typ: TypeFile, count: 1, flags: flagCommit}, make([]byte, MaxFileList+1))
	if r, err := NewReader(bytes.NewReader(long), int64(len(long)), nil); err == nil && r.HasFiles() {
		t.Error("a list that is too long is read")
	}
}
