package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"memtrace/format/addr"
)

// A log for fuzzing is flattened: the payloads of its chunks are decoded and
// the checksums left out, so that a mutation reaches the decoders.

// flatten takes a log apart, but for INDEX, ROOT and tail.
func flatten(t testing.TB, b []byte) (flat []byte) {
	t.Helper()
	r, err := openHeader(bytes.NewReader(b), int64(len(b)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := r.newScan()
	for {
		c, stored, err := s.step()
		if err == io.EOF {
			return flat
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.typ == TypeIndex {
			continue
		}
		payload, err := c.decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		typ := byte(c.typ)
		if c.commit() {
			typ |= entryCommit
		}
		flat = append(flat, typ)
		flat = appendU(flat, c.base)
		flat = appendU(flat, uint64(c.count))
		flat = appendU(flat, c.time())
		flat = appendStr(flat, payload)
	}
}

// unflatten makes a log without an end of what flatten made.
func unflatten(flat []byte) []byte {
	h := Header{Salt: [16]byte{1}, TimeShift: 7}
	b, err := h.append(nil)
	if err != nil {
		panic(err)
	}
	in := cursor{b: flat}
	for seq := uint32(0); len(in.b) > 0; seq++ {
		typ := in.u8()
		c := chunk{off: int64(len(b)), typ: Type(typ &^ entryCommit), seq: seq}
		if typ&entryCommit != 0 {
			c.flags = flagCommit
		}
		c.base, c.count = in.u(), uint32(in.u())
		if time := in.u(); time != 0 {
			c.ext = appendTLV(nil, extTime, appendU(nil, time))
		}
		payload := in.take(min(in.u(), uint64(len(in.b)), MaxPayload))
		if in.bad || c.typ == TypeIndex || c.typ == TypeRoot {
			break
		}
		c.clen, c.ulen = uint32(len(payload)), uint32(len(payload))
		c.pcrc = crc32.Checksum(payload, castagnoli)
		b = append(c.append(b, &h.Salt), payload...)
	}
	return b
}

// exercise reads a log in all ways. What comes out does not matter, but that it
// comes out: no panic, bounded memory and time.
func exercise(t testing.TB, b []byte) {
	t.Helper()
	known := func(err error) {
		for _, e := range []error{ErrFormat, ErrVersion, ErrTruncated, ErrCorrupt, ErrLimit} {
			if errors.Is(err, e) {
				return
			}
		}
		t.Helper()
		t.Errorf("error without a cause: %v", err)
	}
	o := &ReaderOptions{Cache: 4 << 20, MaxState: 32 << 20}
	r, err := NewReader(bytes.NewReader(b), int64(len(b)), o)
	if err != nil {
		known(err)
		return
	}
	s := r.Initial()
	var page [addr.PageSize]byte
	for e, err := range r.Events(0) {
		if err == nil {
			for _, c := range e.Changes {
				if p, ok := c.(*Pages); ok && len(p.Refs) > 0 && len(p.Refs) < 1000 {
					for _, ref := range p.Refs[:min(3, len(p.Refs))] {
						if err := r.Page(ref, &page); err != nil {
							known(err)
						}
					}
				}
			}
			err = s.ApplyEvent(e)
		}
		if err != nil {
			known(err)
			break
		}
	}
	if n, err := r.Stacks(); err != nil {
		known(err)
	} else if n > 0 {
		for _, k := range []int{0, n / 2, n - 1} {
			if _, err := r.Stack(FirstNode + StackNode(k)); err != nil {
				known(err)
			}
		}
	}
	for _, err := range r.Texts() {
		if err != nil {
			known(err)
		}
	}
	if files, err := r.Files(); err != nil {
		known(err)
	} else {
		for i := range files {
			if _, err := r.ReadFile(&files[i], page[:], 0); err != nil && err != io.EOF && !errors.Is(err, ErrNotPacked) {
				known(err)
			}
		}
	}
	for _, err := range r.Changes(r.Steps() / 3) {
		if err != nil {
			known(err)
		}
	}
	for _, err := range r.Phases() {
		if err != nil {
			known(err)
		}
	}
	for _, err := range r.Refs(0, NoStep) {
		if err != nil {
			known(err)
		}
	}
	for _, n := range []Step{r.First(), r.First() + (r.Steps()-r.First())/2, r.Steps() - 1} {
		if r.Steps() == r.First() {
			break
		}
		s, err := r.StateAt(n)
		if err != nil {
			known(err)
			continue
		}
		for _, m := range s.MMs {
			k := 0
			for _, err := range m.Pages(addr.Range{End: ^addr.Addr(0)}) {
				if err != nil {
					known(err)
				}
				if k++; k > 5000 {
					break
				}
			}
			for x := range m.Written(addr.Range{End: ^addr.Addr(0)}) {
				if err := r.Blob(page[:min(x.Len, 8)], x.Blob); err != nil {
					known(err)
				}
			}
		}
		if _, err := r.PhasesAt(n); err != nil {
			known(err)
		}
		for _, err := range r.Refs(n, n+1) {
			if err != nil {
				known(err)
			}
		}
		if _, _, err := r.Regs(n, 1); err != nil {
			known(err)
		}
		if _, err := r.StepAtTime(uint64(n) * 1000); err != nil {
			known(err)
		}
	}
}

func seedLogs(t testing.TB) [][]byte {
	small := writeLog(t, everything(), nil, 5)
	keyed := writeLog(t, randomEvents(11, 60), &WriterOptions{GroupSteps: 4, epoch: 9}, 0)
	stacks, _, _, _ := stackLog(t, rand.New(rand.NewPCG(2, 1)), 80, &WriterOptions{GroupSteps: 9, epoch: 30})
	refs, _ := writeRefs(t, randomRefs(11, 120), &WriterOptions{GroupSteps: 4, epoch: 9, FlushInterval: -1})
	return [][]byte{small, keyed, stacks, refs, packedLog(t, small), partOf(t, keyed, 20), partOf(t, stacks, 40)}
}

// partOf is a log that begins in the middle of another.
func partOf(t testing.TB, log []byte, from Step) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Cut(&out, []*Reader{openLog(t, log)}, Part{From: from, To: NoStep, Facts: testFacts}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// packedLog is a log with small files.
func packedLog(t testing.TB, log []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	p, err := NewPacker(openLog(t, log), &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []addr.Range{{}, {Start: 1, End: 5}, {End: 9}} {
		parts := addr.SetOf(part)
		if err := p.Add(File{Kind: PackedMapped, BuildID: "id", Path: "/lib", Inode: uint64(part.End), Size: 9}, bytes.NewReader([]byte("some file")), &parts, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// tinyLogs are seeds small enough for the fuzzer to be quick.
func tinyLogs(t testing.TB) [][]byte {
	evs := everything()
	keyed := writeLog(t, randomEvents(11, 9), &WriterOptions{GroupSteps: 2, epoch: 4}, 0)
	stacks, _, _, _ := stackLog(t, rand.New(rand.NewPCG(4, 1)), 12, &WriterOptions{GroupSteps: 4})
	refs, _ := writeRefs(t, randomRefs(11, 30), &WriterOptions{GroupSteps: 2, epoch: 4, FlushInterval: -1})
	return [][]byte{writeLog(t, evs[:7], nil, 3), writeLog(t, evs, nil, 0), keyed, stacks, refs, packedLog(t, writeLog(t, evs[:7], nil, 3)), partOf(t, keyed, 4)}
}

func FuzzBytes(f *testing.F) {
	for _, b := range tinyLogs(f) {
		f.Add(b)
		f.Add(b[:len(b)*2/3])
	}
	f.Fuzz(func(t *testing.T, b []byte) { exercise(t, b) })
}

func FuzzPayloads(f *testing.F) {
	for _, b := range tinyLogs(f) {
		f.Add(flatten(f, b))
	}
	f.Fuzz(func(t *testing.T, flat []byte) {
		b := unflatten(flat)
		exercise(t, b)
		var out bytes.Buffer
		if _, err := Recover(bytes.NewReader(b), int64(len(b)), nil, &out); err == nil {
			exercise(t, out.Bytes())
		}
	})
}

// FuzzRefs decodes what claims to be the payload of a REFS chunk.
func FuzzRefs(f *testing.F) {
	log, _ := writeRefs(f, randomRefs(2, 60), &WriterOptions{FlushInterval: -1})
	for _, p := range NewMutator(f, log).in {
		if p.c.typ == TypeRefs {
			f.Add(uint16(p.c.count), p.payload)
		}
	}
	f.Fuzz(func(t *testing.T, count uint16, payload []byte) {
		d, err := newRefDec(entry{typ: TypeRefs, count: uint32(count)}, payload, 9)
		n := 0
		var x RefItem
		for err == nil && d.more() {
			d.nextAfter()
			if err = d.next(&x); err == nil {
				n++
			}
		}
		if n > len(payload) {
			t.Errorf("%d items in %d bytes", n, len(payload))
		}
		if err != nil && !damage(err) {
			t.Error(err)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add(appendIndex(nil, []entry{{off: 100, size: 80, typ: TypeEvent, commit: true, count: 3, time: 7}, {off: 180, size: 60, typ: TypeKey}}, 0, 0))
	info := &Info{Steps: 3, Reason: "x"}
	b := &block{off: 500, end: 400, n: 3}
	b.bases()
	f.Add(appendRoot(nil, []*block{b}, info))
	f.Fuzz(func(t *testing.T, b []byte) {
		if entries, prev, seq, err := parseIndex(b, 1<<40); err == nil {
			again, p, q, err := parseIndex(appendIndex(nil, entries, prev, seq), 1<<40)
			if err != nil || len(again) != len(entries) || p != prev || q != seq {
				t.Errorf("index does not survive: %v", err)
			}
		}
		if _, _, err := parseRoot(b, 1<<40); err != nil && !damage(err) {
			t.Error(err)
		}
	})
}

// mutate changes a few bytes of b in the ways of a hostile author: numbers that
// are huge, negative, off by one, and pieces that are somewhere else.
func mutate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(4) {
		at := rng.IntN(len(b))
		switch rng.IntN(7) {
		case 0:
			b[at] = byte(rng.Uint32())
		case 1:
			b[at] ^= 1 << rng.IntN(8)
		case 2:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[rng.IntN(5)]
		case 3: // a huge number
			n := binary.PutUvarint(make([]byte, 10), 1<<rng.IntN(64))
			v := binary.AppendUvarint(nil, 1<<rng.IntN(64)-uint64(rng.IntN(2)))
			copy(b[at:], v[:min(n, len(v))])
		case 4: // the same, put in
			v := binary.AppendUvarint(nil, 1<<rng.IntN(64))
			b = append(b[:at:at], append(v, b[at:]...)...)
		case 5:
			n := min(1+rng.IntN(8), len(b)-at)
			b = append(b[:at:at], b[at+n:]...)
		case 6:
			n := min(1+rng.IntN(32), len(b)-at)
			copy(b[rng.IntN(len(b)):], b[at:at+n])
		}
		if len(b) == 0 {
			return []byte{0}
		}
	}
	return b
}

// split cuts a flattened log into its chunks.
func split(flat []byte) (parts [][]byte) {
	for c := (cursor{b: flat}); len(c.b) > 0; {
		start := c.b
		c.u8()
		c.u()
		c.u()
		c.u()
		c.blob()
		parts = append(parts, start[:len(start)-len(c.b)])
	}
	return parts
}

// mutatePart mutates the payload of a chunk, or sometimes its header.
func mutatePart(rng *rand.Rand, part []byte) []byte {
	if rng.IntN(8) == 0 {
		return mutate(rng, part)
	}
	c := cursor{b: part}
	c.u8()
	c.u()
	c.u()
	c.u()
	head := part[: len(part)-len(c.b) : len(part)-len(c.b)]
	payload := c.blob()
	if len(payload) == 0 {
		return part
	}
	return appendStr(head, mutate(rng, payload))
}

// TestHostile mutates logs behind their checksums.
func TestHostile(t *testing.T) {
	n := 100
	if testing.Short() {
		n = 40
	}
	rng := rand.New(rand.NewPCG(77, 78))
	for _, log := range seedLogs(t) {
		parts := split(flatten(t, log))
		for i := range n {
			// Pages would catch most mutations.
			k := rng.IntN(len(parts))
			for Type(parts[k][0]) == TypeRaw {
				k = rng.IntN(len(parts))
			}
			var m []byte
			for j, p := range parts {
				if j == k {
					p = mutatePart(rng, p)
				}
				m = append(m, p...)
			}
			b := unflatten(m)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			exercise(t, b)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if alloc := after.TotalAlloc - before.TotalAlloc; alloc > 512<<20 || took > time.Minute {
				t.Errorf("mutant %d: %v and %d MiB", i, took, alloc>>20)
			}
			if i%10 == 0 {
				var out bytes.Buffer
				if _, err := Recover(bytes.NewReader(b), int64(len(b)), nil, &out); err == nil {
					exercise(t, out.Bytes())
				}
			}
		}
	}
}
