//go:build linux

package record

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"memtrace/format/addr"
	"memtrace/record/procfs"
)

// hunt finds the written pages of a large address space while it is held, with the
// help of other CPUs: to look at the page tables of a gigabyte takes one of them
// half a millisecond. The helpers are called before the hold, since to wake them
// takes as long as the work itself. They only look, so that what one of them has
// not finished can be looked at again.
type hunt struct {
	fs     *procfs.Process
	chunks []chunkHunt
	open   atomic.Bool // the chunks may be taken
	next   atomic.Int32
	wg     sync.WaitGroup
}

type chunkHunt struct {
	at    addr.Range
	found []addr.Range
	err   error
	done  atomic.Bool
}

const (
	huntFrom   = 256 << 20 // bytes of mappings
	huntChunk  = 64 << 20
	huntCPUs   = 4
	huntAwake  = 2 * time.Millisecond   // for how long helpers wait for the hold
	huntBehind = 100 * time.Microsecond // for how long they are waited for
)

// startHunt calls the helpers for an address space that is about to be held. It
// returns nil where there is nothing to gain.
func startHunt(mm *space) *hunt {
	helpers := min(huntCPUs, runtime.GOMAXPROCS(0)) - 1
	if mm.track.uffd == nil || !mm.track.full || helpers == 0 {
		return nil
	}
	total := uint64(0)
	for v := range mm.vmas.All() {
		if mm.sweepable(v) {
			total += v.Len()
		}
	}
	if total < huntFrom {
		return nil
	}
	h := &hunt{fs: mm.fs}
	size := addr.Addr(max(huntChunk, total/256)).PageDown()
	for v := range mm.vmas.All() {
		for a := v.Start; a < v.End && mm.sweepable(v); a += min(size, v.End-a) {
			h.chunks = append(h.chunks, chunkHunt{at: addr.Range{Start: a, End: a + min(size, v.End-a)}})
		}
	}
	for range helpers {
		h.wg.Go(func() {
			for begin := time.Now(); !h.open.Load(); {
				if time.Since(begin) > huntAwake {
					return
				}
			}
			for c := h.take(); c != nil; c = h.take() {
				c.found, c.err = h.fs.Written(nil, c.at)
				c.done.Store(true)
			}
		})
	}
	return h
}

// take is a chunk that nobody has looked at, nil if there is none.
func (h *hunt) take() *chunkHunt {
	if i := int(h.next.Add(1)) - 1; i < len(h.chunks) {
		return &h.chunks[i]
	}
	return nil
}

// written is what was found, in ascending order. The address space must be held.
func (h *hunt) written() (found []addr.Range, err error) {
	h.open.Store(true)
	for c := h.take(); c != nil; c = h.take() {
		c.found, c.err = h.fs.Written(nil, c.at)
		c.done.Store(true)
	}
	begin := time.Now()
	for i := range h.chunks {
		c := &h.chunks[i]
		for !c.done.Load() && time.Since(begin) < huntBehind {
		}
		if c.done.Load() {
			found, err = append(found, c.found...), c.err
		} else {
			found, err = h.fs.Written(found, c.at)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// end waits for helpers that are behind.
func (h *hunt) end() {
	if h != nil {
		h.open.Store(true)
		h.next.Store(int32(len(h.chunks)))
		h.wg.Wait()
	}
}
