//go:build linux

package record

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/dirty/dirtytest"
)

// TestUnreadable: that an address space cannot be read is told to a person, and written
// down after the event with which it came.
func TestUnreadable(t *testing.T) {
	o := plain(t, "step")
	var told []string
	o.Warn = func(s string) { told = append(told, s) }
	b := newBench(t, o)
	b.w.refuse = errors.New("operation not permitted")
	main := b.program()
	equal(t, "events", b.events(0), []string{"Exec", "Lost"})
	l, e := newest[*format.Lost](b)
	if !strings.Contains(l.What, "address space 1: operation not permitted") || e.Thread != 1 || len(told) != 1 || !strings.Contains(told[0], "cannot be read") {
		t.Errorf("%q, told %q", l.What, told)
	}
	b.do(main, nil, 0x100000, "mmap", 0, 4096)
	b.end(main)
	equal(t, "events", b.events(2), []string{"Syscall", "Exit"})
	b.tape.verified(t)
}

// TestWrittenUnseen: to memory that the kernel may write by itself, writes are not to be
// found: it is compared from then on.
func TestWrittenUnseen(t *testing.T) {
	ring := vma.VMA{Range: pages(0x50, 0x51), Prot: addr.Read | addr.Write | addr.Shared, Name: "anon_inode:[io_uring]", Inode: 9, Kind: vma.FileShared}
	for name, c := range map[string]struct {
		call   string
		ret    int64
		change func(*dirtytest.Memory)
		never  bool
	}{
		"made":   {"io_uring_setup", 5, nil, true},
		"failed": {"io_uring_setup", -int64(unix.EPERM), nil, false},
		"mapped": {"mmap", int64(ring.Start), func(m *dirtytest.Memory) { m.Map(ring) }, true},
	} {
		b, main, m, mem := tracked(t)
		u := &dirtytest.Uffd{Memory: mem}
		m.find(dirty.NewUffd(u, m.fs, m.Mappings()))
		b.do(main, c.change, c.ret, c.call, uint64(ring.Start), addr.PageSize)
		want := format.DirtyWPAsync
		if c.never {
			want = format.DirtyCompare
		}
		if m.finder.Name() != want || u.Closed != c.never {
			t.Errorf("%s: writes are found by %v, ours is closed: %v", name, m.finder.Name(), u.Closed)
		}
		if !c.never {
			continue
		}
		b.w.soft, b.w.uffd = true, true
		b.wantTracking(m)
		m.track.stage = trackOverdue // as wanted before
		b.beginTracking(m, main)
		if m.track.stage != trackIdle || m.finder.Name() != format.DirtyCompare || m.withoutUffd().Name() != format.DirtyCompare {
			t.Errorf("%s: %+v, writes are found by %v", name, m.track, m.finder.Name())
		}
	}
}

// TestUffdByIoctl: a userfaultfd may also come of an ioctl, which takes ours away.
func TestUffdByIoctl(t *testing.T) {
	b, main, m, _ := tracked(t)
	b.do(main, nil, 0, "ioctl", 3, 0xaa01, 0)
	if m.ownUffd || m.finder.Name() != format.DirtyWPAsync {
		t.Error("another ioctl takes our userfaultfd away")
	}
	b.do(main, nil, 5, "ioctl", 3, 0xaa00, 0)
	if !m.ownUffd || !b.uffds || m.finder.Name() != format.DirtyCompare {
		t.Errorf("writes are found by %v", m.finder.Name())
	}
}

// TestReadCarefully: of a file that somebody serves only those pages are read that are
// there, from when it is mapped on.
func TestReadCarefully(t *testing.T) {
	b := newBench(t, plain(t, "none"))
	served := vma.Dev{Minor: 44}
	b.w.types = map[vma.Dev]string{{}: "ext4", served: "fuse.sshfs"}
	main := b.program()
	mem := b.w.spaces[main.TID]
	if main.Space.Read != nil {
		t.Error("where nothing is served the memory is read with care")
	}
	file := vma.VMA{Range: pages(0x50, 0x54), Prot: addr.Read, Dev: served, Inode: 3, Name: "/mnt/file", Kind: vma.FilePrivate}
	next := anon(0x54, 0x56)
	b.do(main, func(m *dirtytest.Memory) { m.Map(file); m.Map(next) }, int64(file.Start), "mmap", 0, 6*addr.PageSize)
	if main.Space.Read == nil {
		t.Fatal("it is read without care")
	}
	for _, there := range []int{0x50, 0x51, 0x53} {
		mem.Touch(page(there))
	}
	for _, c := range []struct{ from, n, want int }{
		{0x50, 8, 8}, {0x50, 3 * addr.PageSize, 2 * addr.PageSize}, {0x52, 8, 0}, {0x53, 3 * addr.PageSize, 3 * addr.PageSize}, {0x53, 4 * addr.PageSize, 3 * addr.PageSize}, {0x60, 8, 0},
	} {
		if got := b.group.ReadMem(main, make([]byte, c.n), page(c.from)); got != c.want {
			t.Errorf("%d bytes at %#x: %d could be read, not %d", c.n, c.from, got, c.want)
		}
	}
}
