package format

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"memtrace/format/addr"
)

// TestPatchOrder: when patches fill a chunk before the pages that they start from
// fill theirs, the pages are written first.
func TestPatchOrder(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(), &WriterOptions{FlushInterval: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Change(&MMNew{MM: 1}); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 20 // less than a chunk of raw pages
	data := make([]byte, n*addr.PageSize)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	last := data
	for range 40 {
		if _, err := w.Event(&Event{Record: &Snapshot{MM: 1}, Changes: []Change{&Pages{MM: 1, Addr: 0x1000, N: n, What: PageData, Data: last}}}); err != nil {
			t.Fatal(err)
		}
		last = bytes.Clone(data)
		for i := range n { // half of a page is the most that a patch holds
			at := i*addr.PageSize + rng.IntN(100)
			for k := range 1900 {
				last[at+k] = byte(rng.Uint32())
			}
		}
	}
	if err := w.Close("done"); err != nil {
		t.Fatal(err)
	}
	log := b.Bytes()
	info, err := Verify(bytes.NewReader(log), int64(len(log)), nil, func(err error) { t.Error(err) })
	if err != nil || info.Patches < 200 {
		t.Errorf("%d patches; %v", info.Patches, err)
	}
}
