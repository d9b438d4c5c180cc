package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"

	"memtrace/format/addr"
)

// oneChunk is a log with one chunk.
func oneChunk(c chunk, stored []byte) []byte {
	h := Header{Salt: [16]byte{1}, TimeShift: 7}
	b, err := h.append(nil)
	if err != nil {
		panic(err)
	}
	c.off, c.clen, c.flags = int64(len(b)), uint32(len(stored)), c.flags|flagCommit
	if c.flags&flagCodec == codecStored && c.ulen == 0 {
		c.ulen = c.clen
	}
	c.pcrc = crc32.Checksum(stored, castagnoli)
	return append(c.append(b, &h.Salt), stored...)
}

// uints is a payload of numbers.
func uints(v ...uint64) (b []byte) {
	for _, x := range v {
		b = appendU(b, x)
	}
	return b
}

// TestLimits gives every limit something that exceeds it.
func TestLimits(t *testing.T) {
	event := func(count uint32, payload []byte) func() error {
		return func() error {
			_, err := newEventDec(entry{count: count, typ: TypeEvent}, payload, nil, 7)
			if err != nil {
				return err
			}
			d, _ := newEventDec(entry{count: count, typ: TypeEvent}, payload, nil, 7)
			for d.row < d.rows {
				if _, err := d.next(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	state := func(payload []byte, ids uint64) func() error {
		return func() error {
			s := NewState()
			s.mem.limit = 64 << 20
			if err := s.Apply(&MMNew{MM: 1}); err != nil {
				return err
			}
			part := statePart{load: func() ([]byte, uint64, uint64, error) { return payload, ids, ids, nil }}
			return s.apply(&group{states: []statePart{part}, spent: &s.mem}, 10)
		}
	}
	refs := func(payload []byte) func() error {
		return func() error {
			d, err := newRefDec(entry{count: 1, typ: TypeRefs}, payload, 7)
			var x RefItem
			for err == nil && d.more() {
				err = d.next(&x)
			}
			return err
		}
	}
	header := func(c chunk, stored []byte) func() error {
		return func() error {
			b := oneChunk(c, stored)
			r, err := openHeader(bytes.NewReader(b), int64(len(b)), nil)
			if err != nil {
				return err
			}
			s := r.newScan()
			c, stored, err := s.step()
			if err == nil {
				_, err = c.decode(stored)
			}
			return err
		}
	}
	record := func(typ byte, body []byte) []byte {
		return append(uints(0, 0), append([]byte{typ, byte(1 + len(body)), 0}, body...)...)
	}
	bomb := func(n int) []byte {
		e, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return e.EncodeAll(make([]byte, n), nil)
	}
	small := bomb(1000)
	var big Header
	bigHeader, err := big.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(bigHeader[12:], MaxHeader+1)
	tests := []struct {
		name string
		want error
		f    func() error
	}{
		{"header", ErrCorrupt, func() error { _, err := NewReader(bytes.NewReader(bigHeader), int64(len(bigHeader)), nil); return err }},
		{"extension", ErrLimit, header(chunk{typ: TypeState, ext: make([]byte, MaxExt+1)}, nil)},
		{"payload", ErrLimit, header(chunk{typ: TypeState, flags: codecZstd, ulen: MaxPayload + 1}, small)},
		{"stored", ErrLimit, func() error {
			c := chunk{typ: TypeState, flags: codecZstd, clen: MaxStored + 1}
			b := c.append(nil, new([16]byte))
			d, _, err := parseFixed(b, 0)
			if err != nil {
				return err
			}
			return d.check(b, new([16]byte))
		}},
		{"bomb", ErrCorrupt, header(chunk{typ: TypeState, flags: codecZstd, ulen: 1000}, bomb(64<<20))},
		{"trailing frame", ErrCorrupt, header(chunk{typ: TypeState, flags: codecZstd, ulen: 2000}, append(bytes.Clone(small), small...))},
		{"frame of another size", ErrCorrupt, header(chunk{typ: TypeState, flags: codecZstd, ulen: 999}, small)},
		{"stored of another size", ErrCorrupt, header(chunk{typ: TypeState, ulen: 99}, []byte("x"))},
		{"codec", ErrCorrupt, header(chunk{typ: TypeState, flags: 2}, []byte("x"))},
		{"type 0", ErrCorrupt, header(chunk{}, nil)},
		{"critical", ErrCorrupt, header(chunk{typ: 77, flags: flagCritical}, nil)},
		{"raw pages", ErrLimit, header(chunk{typ: TypeRaw, count: MaxFramePages + 1}, nil)},
		{"raw size", ErrCorrupt, header(chunk{typ: TypeRaw, count: 2}, make([]byte, addr.PageSize))},
		{"patch chunk", ErrLimit, header(chunk{typ: TypePatch, flags: codecZstd, count: 1, ulen: MaxChain + 1}, small)},
		{"blob size", ErrCorrupt, header(chunk{typ: TypeBlob, count: 2}, []byte("x"))},
		{"rows", ErrLimit, event(MaxRows+1, nil)},
		{"no rows", ErrLimit, event(0, nil)},
		{"slots", ErrCorrupt, event(1, append(uints(1, 1, 1, 2, 0, 0, 0, 0, 3), make([]byte, 15)...))},
		{"arguments", ErrCorrupt, event(1, uints(1, 1, 1, 1, 1, 1, MaxArgs+1, 0, 1, 0, 0, 0, 0, 0, 0))},
		{"registers", ErrCorrupt, event(1, uints(1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, MaxRegs+1, 0))},
		{"register mask", ErrCorrupt, event(1, append(uints(1, 1, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 5, colSlot, 0, 1, colTime, 0, 1, colRegs, 0, 1, colBlobRef, 0, 1, colBlobLen, 0, 1), 0, 0, 4, 0, 0))},
		{"columns", ErrLimit, event(1, append(uints(0, 0, 0, 0, MaxColumns+1), make([]byte, 3*(MaxColumns+1))...))},
		{"column length", ErrCorrupt, event(1, uints(0, 0, 0, 0, 1, 0, 0, 1<<40))},
		{"row without columns", ErrCorrupt, event(1, uints(1, 1, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))},
		{"page number", ErrCorrupt, state(record(recPages, uints(1, 1, zigzag(MaxPageNo+1), 1<<3|runZero)), 0)},
		{"page count", ErrLimit, state(record(recPages, uints(1, 1, zigzag(8), MaxPageNo<<3|runZero)), 0)},
		{"pages that are not there", ErrCorrupt, state(record(recPages, uints(1, 1, 0, 5<<3|runRaw)), 4)},
		{"patches that are not there", ErrCorrupt, state(record(recPages, uints(1, 1, 0, 5<<3|runPatch)), 4)},
		{"references that are not there", ErrCorrupt, state(record(recPages, uints(1, 1, 0, 1<<3|runRef, zigzag(8))), 4)},
		{"reference count", ErrCorrupt, state(record(recPages, uints(1, 1, 0, 1000<<3|runRef, 0)), 4)},
		{"run kind", ErrCorrupt, state(record(recPages, uints(1, 1, 0, 1<<3|7)), 4)},
		{"run count", ErrCorrupt, state(record(recPages, uints(1, 1<<40, 0, 1<<3|runZero)), 4)},
		{"record type", ErrCorrupt, state(record(99, nil), 0)},
		{"record length", ErrCorrupt, state(append(uints(0, 0), recMMNew, 100, 0), 0)},
		{"next page", ErrCorrupt, state(uints(5, 0), 4)},
		{"overlapping move", ErrCorrupt, state(record(recVMAMove, uints(1, 0x1000, 0x2000, 0x3000)), 0)},
		{"patch is its own base", ErrCorrupt, func() error { _, err := parsePatches(uints(1, 0), 0, 1); return err }},
		{"patch of the future", ErrCorrupt, func() error { _, err := parsePatches(uints(2<<1|1, 0), 1, 1); return err }},
		{"patch length", ErrCorrupt, func() error {
			_, err := parsePatches(append(uints(0, MaxPatch+1), make([]byte, MaxPatch+1)...), 0, 1)
			return err
		}},
		{"patch beyond the page", ErrCorrupt, func() error { return applyPatch(new([addr.PageSize]byte), append(uints(addr.PageSize, 1), 0)) }},
		{"leaf references", ErrCorrupt, func() error {
			_, err := parseLeaf(append([]byte{leafFull}, uints(512<<3|1, zigzag(-1))...), 9)
			return err
		}},
		{"leaf entries", ErrCorrupt, func() error { _, err := parseLeaf(append([]byte{leafFull}, uints(513<<3|2)...), 9); return err }},
		{"index that points forward", ErrCorrupt, func() error { _, _, _, err := parseIndex(uints(0, 100, 0), 100); return err }},
		{"index beyond itself", ErrCorrupt, func() error { _, _, _, err := parseIndex(uints(1, 0, 0, 64, 1, 100, 0, 0), 100); return err }},
		{"references", ErrLimit, header(chunk{typ: TypeRefs, count: MaxRefs + 1}, make([]byte, MaxRefs+1))},
		{"references without bytes", ErrCorrupt, header(chunk{typ: TypeRefs, count: 2}, []byte{1})},
		{"spaces of references", ErrLimit, refs(append(uints(0, 0, MaxRefMMs+1), make([]byte, 7*(MaxRefMMs+1))...))},
		{"threads of references", ErrLimit, refs(append(uints(0, 0, 0, MaxRefs+1), make([]byte, 2*(MaxRefs+1))...))},
		{"thread of no space", ErrCorrupt, refs(uints(0, 0, 0, 1, 7, 0, 0))},
		{"columns of references", ErrLimit, refs(append(uints(0, 0, 0, 0, MaxColumns+1), make([]byte, 3*(MaxColumns+1))...))},
		{"references without a column", ErrCorrupt, refs(uints(0, 0, 0, 0, 0))},
		{"reference of no thread", ErrCorrupt, refs(uints(0, 0, 0, 0, 1, refColKind, 0, 1, 1))},
		{"blocks of a phase", ErrCorrupt, refs(uints(0, 0, 1, 0, 0, 0, 0, MaxPageNo+1, 0, 0, 0, 1, refColKind, 0, 1, 1))},
		{"phase of no space", ErrCorrupt, refs(uints(0, 0, 0, 0, 2, refColKind, 0, 1, refColPhase, 0, 12, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0))},
		{"pages held", ErrCorrupt, refs(uints(0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 2, refColKind, 0, 1, refColPhase, 0, 13, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 9, 9))},
		{"item length", ErrCorrupt, func() error { _, err := item(uints(1<<60), 1, 0); return err }},
	}
	for _, tt := range tests {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tt.f()
		runtime.ReadMemStats(&after)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s: %d bytes allocated", tt.name, n)
		}
	}
}

// TestHugeRanges checks that ranges of pages are not expanded.
func TestHugeRanges(t *testing.T) {
	s := NewState()
	changes := []Change{&MMNew{MM: 1}}
	for i := range uint64(1000) {
		changes = append(changes,
			&Pages{MM: 1, N: 1 << 45, What: PageZero},
			&Pages{MM: 1, Addr: addr.Addr(i << 40), N: 1 << 40, What: PageFile},
			&VMAMove{MM: 1, From: 1 << 59, To: addr.Addr(i << 30), Len: 1 << 57},
			&VMADel{MM: 1, Range: addr.Range{Start: 0x1000, End: 1 << 60}})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, c := range changes {
		if err := s.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<20 {
		t.Errorf("%d MiB allocated", n>>20)
	}
}

// TestBudget fills page maps in the most wasteful way.
func TestBudget(t *testing.T) {
	s := NewState()
	s.mem.limit = 16 << 20
	if err := s.Apply(&MMNew{MM: 1}); err != nil {
		t.Fatal(err)
	}
	var err error
	n := 0
	for ; n < 100_000 && err == nil; n++ {
		err = s.Apply(&Pages{MM: 1, Addr: addr.Addr(n << 31), N: 1, What: PageZero})
	}
	if !errors.Is(err, ErrLimit) {
		t.Fatalf("%d leaves: %v", n, err)
	}
	// What was let go does not count.
	s = NewState()
	s.mem.limit = 16 << 20
	for mm := range uint32(2000) {
		for _, c := range []Change{&MMNew{MM: mm + 1}, &Pages{MM: mm + 1, N: 1, What: PageZero}, &MMDrop{MM: mm + 1}} {
			if err := s.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestBudgetOfKeyframe bounds the leaves of a keyframe and what changes them.
func TestBudgetOfKeyframe(t *testing.T) {
	const leaves = 100_000
	payload := append(uints(0, 0, leaves<<1|1), make([]byte, leaves)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := parseMM(payload, 1, nil, 9, &budget{limit: 1 << 20})
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrLimit) || n > 2<<20 {
		t.Fatalf("%d bytes allocated: %v", n, err)
	}
	s := NewState()
	s.mem.limit = 64 << 20
	m, err := parseMM(payload, 1, nil, 9, &s.mem)
	if err != nil {
		t.Fatal(err)
	}
	s.MMs[1] = m
	for i := 0; err == nil && i < 40*leaves; i++ {
		err = s.Apply(&Pages{MM: 1, Addr: addr.Addr(i%leaves) << (leafShift + addr.PageShift), N: 1, What: PageZero})
	}
	if !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
}

// TestPatchLimits reads pages whose chains of patches are too long.
func TestPatchLimits(t *testing.T) {
	frame := func(typ Type, base uint64, count int, payload []byte) []byte {
		b := appendU([]byte{byte(typ)}, base)
		return appendStr(append(appendU(b, uint64(count)), 0), payload)
	}
	var chain []byte
	for i := range 70 {
		from := uint64(1<<1 | 1)
		if i == 0 {
			from = 0
		}
		chain = appendU(appendU(chain, from), 0)
	}
	flat := frame(TypeRaw, 0, 1, page(1))
	flat = append(flat, frame(TypePatch, 0, 70, chain)...)
	// Two patches of a chunk that is as large as may be, one of another.
	big := func(from uint64) []byte {
		table := uints(from, 0)
		n := 0
		for n = 0; len(table)+n*MaxPatch < MaxChain*3/4; n++ {
			table = appendU(appendU(table, 0), MaxPatch)
		}
		return frame(TypePatch, 70, n+1, append(table, make([]byte, n*MaxPatch)...))
	}
	flat = append(flat, big(0)...)
	second := split(big(0))[0]
	c := cursor{b: second}
	c.u8()
	c.u()
	n := c.u()
	next := appendU([]byte{byte(TypePatch)}, 70+n)
	next = appendU(next, n)
	d := uints(n<<1|1, 0)
	c.u()
	old := c.blob()[2:]
	next = appendStr(append(next, 0), append(d, old...))
	flat = append(flat, next...)
	flat = append(flat, flatten(t, writeLog(t, []Event{{Record: &Lost{}}}, nil, 0))...)
	r := openLog(t, unflatten(flat))
	var p [addr.PageSize]byte
	for id, want := range map[uint64]error{0: nil, 63: nil, 64: ErrLimit, 69: ErrLimit, 70: nil, 70 + n: ErrLimit, 70 + 2*n: ErrCorrupt} {
		if err := r.Page(PageRef(id<<1|1), &p); !errors.Is(err, want) {
			t.Errorf("patch %d: %v, want %v", id, err, want)
		} else if want == nil && !bytes.Equal(p[:], page(1)) {
			t.Errorf("patch %d gives a wrong page", id)
		}
	}
}
