//go:build linux

package pagetrace

import "testing"

func TestParsePageTrace(t *testing.T) {
	for in, want := range map[string]string{
		"auto": "auto,granule=auto,engine=prot", "512": "512,granule=4096,engine=prot",
		"16M": "4096,granule=4096,engine=prot", "64M,granule=64K": "1024,granule=65536,engine=prot",
		"write": "auto,granule=4096,engine=wp", "4096,engine=wp": "4096,granule=4096,engine=wp", "": "auto,granule=auto,engine=prot", "auto,granule=4K": "auto,granule=4096,engine=prot", "512,granule=auto": "512,granule=4096,engine=prot",
		"auto,granule=64K,engine=prot": "auto,granule=65536,engine=prot",
	} {
		p, err := Parse(in)
		if err != nil || p.String() != want {
			t.Errorf("%q: %v, %v, want %s", in, p, err, want)
		}
		if again, err := Parse(p.String()); err != nil || again != p {
			t.Errorf("%v read again: %v, %v", p, again, err)
		}
	}
	for _, in := range []string{"63", "20000", "x", "0", "512,1024", "512,granule=5000", "512,granule=4M", "granule=1K", "auto,engine=rwp", "write,granule=64K", "1M,granule=64K", "-1"} {
		if p, err := Parse(in); err == nil {
			t.Errorf("%q was taken for %v", in, p)
		}
	}
	if s := (Ask{}).String(); s != "none" {
		t.Errorf("no page trace is %q", s)
	}
}
