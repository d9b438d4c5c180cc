//go:build linux

package pagetrace

import "testing"

// TestTotalPace: programs that begin while the recording is behind begin with larger
// blocks, as long as it is.
func TestTotalPace(t *testing.T) {
	var total traceTotal
	a, b := tracePace{total: &total}, tracePace{total: &total}
	if g := total.granule(); g != 4<<10 {
		t.Errorf("blocks of %d bytes at first", g)
	}
	for i, want := range []uint64{16 << 10, 64 << 10, 64 << 10} {
		for _, c := range []*tracePace{&a, &b} {
			c.begin(1000)
			c.end(1000 + ahead/2)
		}
		total.spent++
		if g := total.granule(); g != want {
			t.Errorf("%d: behind by %d ns: blocks of %d bytes, not %d", i, total.spent, g, want)
		}
	}
	total.ran = 2 * total.spent
	if g := total.granule(); g != 4<<10 {
		t.Errorf("blocks of %d bytes when programs have run for long", g)
	}
}
