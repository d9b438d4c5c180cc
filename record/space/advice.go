// This file serves madvise and process_madvise, which give back the contents of
// memory.

package space

import (
	"encoding/binary"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
)

const drops = arch.Drops | arch.DropsLater

// applyAdvice serves madvise. done is true also if it has found a hole: then it
// has done all the rest (mm/madvise.c, madvise_walk_vmas).
func (t *Table) applyAdvice(at addr.Range, advice arch.Advice, done bool, w Watcher) {
	switch {
	case at.Empty():
	case advice.Is(drops):
		w.Dropped(at, advice, done)
	case advice.Is(arch.WipesOnFork): // if it has failed, then perhaps half way
		t.wipe.Add(at)
	case done && advice.Is(arch.KeepsOnFork):
		t.wipe.Remove(at)
	}
	t.Ask(at, w)
}

// processAdvised serves process_madvise, whose ranges are in memory. What a
// process lets go of itself is gone; on others the kernel allows only advice that
// keeps contents.
func processAdvised(c *call.Call, read Reader, w Watcher) {
	const most = 1024 // UIO_MAXIOV
	advice := arch.AdviceOf(c.Args[3])
	if !advice.Is(drops) {
		return
	}
	word := uint64(c.Arch.PointerSize())
	b := make([]byte, 2*word*min(c.Args[2], most))
	b = b[:read(b, addr.Addr(c.Args[1]))]
	for ; uint64(len(b)) >= 2*word; b = b[2*word:] {
		base, n := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[word:]))
		if word == 8 {
			base, n = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[word:])
		}
		if at := span(addr.Addr(base), n); !at.Empty() {
			w.Dropped(at, advice, true)
		}
	}
}
