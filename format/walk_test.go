package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// canaries writes a text of its own into every string, every slice of bytes and of
// registers that v leads to, and returns them by where they are.
func canaries(v reflect.Value, path string, n *uint64, out map[string][]byte) {
	mark := func() []byte {
		*n++
		b := binary.LittleEndian.AppendUint64(nil, 0xfedc_ba98_0000_0000|*n)
		out[path] = b
		return b
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			canaries(v.Elem(), path+"("+strings.TrimPrefix(v.Elem().Type().String(), "*")+")", n, out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Type() != reflect.TypeFor[Pages]() && name != "Blobs" {
				canaries(v.Field(i), path+"."+name, n, out)
			}
		}
	case reflect.String:
		v.SetString(string(mark()))
	case reflect.Slice:
		switch v.Type().Elem().Kind() {
		case reflect.Uint8:
			v.SetBytes(mark())
		case reflect.Uint64:
			v.Set(reflect.ValueOf([]uint64{1, binary.LittleEndian.Uint64(mark())}))
		default:
			if v.Type().Elem().Kind() == reflect.Interface && v.Len() == 0 {
				return
			}
			if v.Len() == 0 {
				v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			}
			for i := range v.Len() {
				canaries(v.Index(i), fmt.Sprintf("%s[%d]", path, i), n, out)
			}
		}
	}
}

// TestWalkShowsAll writes a log of every kind of record and change with a text of its
// own in each place that can have one: Walk shows all of them, and nothing else that it
// cannot account for.
func TestWalkShowsAll(t *testing.T) {
	want := map[string][]byte{}
	var n uint64
	h := Header{Salt: [16]byte{1}, TimeShift: testShift}
	canaries(reflect.ValueOf(&h).Elem(), "header", &n, want)
	var b bytes.Buffer
	w, err := NewWriter(&b, &h, &WriterOptions{FlushInterval: -1, epoch: 4, GroupSteps: 4})
	if err != nil {
		t.Fatal(err)
	}
	evs := everything()
	evs[3] = *evs[3].Clone() // it shares its record with the one before
	for i := range evs {
		if r, ok := evs[i].Record.(*Unknown); ok {
			r.Data = []byte("unknown body")
			continue
		}
		canaries(reflect.ValueOf(&evs[i]).Elem(), fmt.Sprintf("event %d", i), &n, want)
	}
	m := new(Module)
	canaries(reflect.ValueOf(m).Elem(), "module", &n, want)
	no, err := w.Module(m)
	if err != nil {
		t.Fatal(err)
	}
	if evs[2].Stack, err = w.Stack([]RawFrame{{Module: no, Offset: 1}}, 0, StackComplete); err != nil {
		t.Fatal(err)
	}
	text := new(Text)
	canaries(reflect.ValueOf(text).Elem(), "text", &n, want)
	if err := w.Text(text); err != nil {
		t.Fatal(err)
	}
	for i := range evs {
		if _, err := w.Event(&evs[i]); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		if i == 3 {
			if err := w.Ref(&Ref{Thread: 1, MM: 1, Page: 0x1000000}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close("why it ended"); err != nil {
		t.Fatal(err)
	}
	want["root"] = []byte("why it ended")
	var all []byte
	seen := map[string]bool{}
	err = Walk(bytes.NewReader(b.Bytes()), int64(b.Len()), nil, func(p *Piece) error {
		seen[p.Place] = true
		if p.Place == PlaceOther {
			t.Errorf("not accounted for: %q", p.Data)
		}
		all = append(all, p.Data...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, c := range want {
		if !bytes.Contains(all, c) {
			t.Errorf("%s is not shown", where)
		}
	}
	if len(want) < 50 {
		t.Errorf("only %d places have a text", len(want))
	}
	for _, place := range Places() {
		s := strings.TrimPrefix(place, placeHeader)
		text := place == PlaceKeyName || place == PlaceKeyRegs || place == PlaceKeyXState || place == PlacePages || s != place
		if text && !seen[place] {
			t.Errorf("%s is not shown", place)
		}
	}
}

// TestWalkAccountsForAll puts bytes where readers pass over them: Walk says so.
func TestWalkAccountsForAll(t *testing.T) {
	const hidden = "passed over"
	log := writeLog(t, everything(), &WriterOptions{epoch: 4, GroupSteps: 4}, 0)
	r, err := openHeader(bytes.NewReader(log), int64(len(log)), nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	s := r.newScan()
	w := walker{r: r, next: &s.next, visit: func(p *Piece) error {
		found = found || p.Place == PlaceOther && bytes.Contains(p.Data, []byte(hidden))
		return nil
	}}
	w.see.mode = visiting
	tried := map[Type]bool{}
	for {
		c, stored, err := s.step()
		if err != nil {
			break
		}
		payload, err := c.decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		budget := r.budget
		if c.typ == TypeRaw || c.typ == TypePatch || c.typ == TypeBlob { // what is behind them is shown as theirs
			if err := w.chunk(&c, payload, &budget); err != nil {
				t.Fatal(err)
			}
			continue
		}
		tried[c.typ], found = true, false
		if err := w.chunk(&c, append(bytes.Clone(payload), hidden...), &budget); err == nil && !found {
			t.Errorf("bytes behind a %v chunk are not told of", c.typ)
		}
		w.blob = w.blob[:0]
		c.ext, found = appendTLV(c.ext, 7, []byte(hidden)), false
		if err := w.chunk(&c, payload, &budget); !found {
			t.Errorf("an extension of a %v chunk is not told of: %v", c.typ, err)
		}
		w.blob = w.blob[:0]
	}
	if len(tried) < 6 {
		t.Errorf("only %v were tried", tried)
	}
	h := r.Header()
	h.Redacted, found = hidden, false
	b, err := h.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte(hidden))-2] = 99 // a tag that is not known
	w.r = &Reader{r: bytes.NewReader(b), size: int64(len(b)), start: int64(len(b))}
	if err := w.header(); err != nil || !found {
		t.Errorf("a tag of the header that is not known: %v, %v", found, err)
	}
}
