//go:build linux

package inside

import (
	"testing"

	"memtrace/format/arch"
	"memtrace/record/inproc"
	"memtrace/record/space"
	"memtrace/record/tracee"
)

// TestInsideCallsArePlain looks whether the calls that programs record themselves have no
// effect that the recorder would have to look at before the program goes on.
func TestInsideCallsArePlain(t *testing.T) {
	o := tracee.Options{DataLimit: 4096, StringLimit: 32}
	k := o.Collector()
	table := inproc.NewTable(&k, func(uint32) inproc.Choice { return inproc.Records })
	n := 0
	for nr, row := range arch.X86_64.Syscalls() {
		if !table.Records(uint64(nr), 0, 0) {
			continue
		}
		n++
		if e := space.EffectOf(arch.X86_64, uint32(nr)); e != space.EffNone && e != space.EffClose {
			t.Errorf("%s is recorded inside, and has effect %d", row.Name, e)
		}
		if row.Flags&(arch.ChangesMM|arch.Renames|arch.NoReturn) != 0 {
			t.Errorf("%s is recorded inside, and has flags %#x", row.Name, row.Flags)
		}
	}
	if n < 60 {
		t.Errorf("only %d calls are recorded inside", n)
	}
}

// TestSitesAfterAFork looks whether a copy of an address space knows its patches, and
// forgets them on its own.
func TestSitesAfterAFork(t *testing.T) {
	s := newSites()
	const site = 0x7f0000001000
	p, ok := inproc.Find(site, []byte{0x0f, 0x05, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc})
	w := inproc.NewWindow(0x7f0000100000)
	if !ok || !w.Place(p) {
		t.Fatal("no patch")
	}
	s.windows = append(s.windows, w)
	s.patched[site], s.stubs[p.Return()] = p, p
	c := s.fork()
	delete(s.patched, site)
	if c.patched[site] == nil || c.program(p.Return()) != site+2 || s.program(p.Return()) != site+2 {
		t.Error("the copy does not know the patch, or the original not its stub")
	}
	if c.stopped(site + 2) {
		t.Error("a patched site is to be patched")
	}
	for i := range hot {
		if s.stopped(site+2) != (i == hot-1) {
			t.Errorf("stop %d: wrong answer", i+1)
		}
	}
}
