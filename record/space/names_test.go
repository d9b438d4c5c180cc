// This file tests which tables a renamed file concerns.

package space

import (
	"slices"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/vma"
)

func TestLastComponents(t *testing.T) {
	for _, x := range []struct {
		call  string
		paths []string
		want  []string
	}{
		{"rename", []string{"/a/b\x00", "c\x00"}, []string{"b", "c"}},
		{"renameat2", []string{"b/"}, []string{"b"}},
		{"unlink", []string{"/a/x.so\x00"}, []string{"x.so"}},
		{"rmdir", []string{"/a/.."}, nil},
		{"unlink", []string{""}, nil},
		{"unlink", []string{"/"}, nil},
		{"unlinkat", nil, nil},
		{"mount", []string{"/a", "/b"}, nil},
	} {
		c := sys(x.call)
		for i, p := range x.paths {
			c.Bufs = append(c.Bufs, call.Buf{Arg: uint8(i), Data: []byte(p)})
		}
		c.Bufs = append(c.Bufs, call.Buf{Out: true, Data: []byte("out")})
		if got := LastComponents(c); !slices.Equal(got, x.want) || (got == nil) != (x.want == nil) {
			t.Errorf("%s(%q): %q", x.call, x.paths, got)
		}
	}
	c := sys("unlink")
	c.Bufs = []call.Buf{{Data: []byte("/a/cut off"), More: true}}
	if got := LastComponents(c); got != nil {
		t.Errorf("a path that is not whole: %q", got)
	}
}

func TestMentions(t *testing.T) {
	table, err := New(1, nil, []vma.VMA{anon(pages(1, 2), rw, "[anon:lib]"), file(pages(2, 3), ro, "/usr/lib/x.so", 5), file(pages(3, 4), ro, "/usr/lib/x.so", 5)})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		names []string
		want  bool
	}{
		{nil, true}, {[]string{}, false}, {[]string{"x.so"}, true}, {[]string{"no", "lib"}, true}, {[]string{"anon"}, false}, {[]string{"y.so"}, false},
	} {
		if got := table.Mentions(x.names); got != x.want {
			t.Errorf("Mentions(%q) = %v", x.names, got)
		}
	}
}

// A file whose name has the characters by which the kernel escapes a newline may be
// known by either name.
func TestMentionsEscaped(t *testing.T) {
	for _, mapped := range []string{"/tmp/back\\012slash", "/tmp/back\nslash"} {
		table, err := New(1, nil, []vma.VMA{{Range: addr.Range{Start: 0x1000, End: 0x2000}, Inode: 1, Name: mapped}})
		if err != nil {
			t.Fatal(err)
		}
		nr, _ := arch.X86_64.Number("unlink")
		c := call.Call{Arch: arch.X86_64, Nr: nr, Bufs: []call.Buf{{Data: []byte("back\\012slash\x00")}}}
		if !table.Mentions(LastComponents(&c)) {
			t.Errorf("%q is not taken for the file that was removed", mapped)
		}
	}
}
