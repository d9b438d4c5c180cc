// This file has buffers that a program gives to calls again and again, of which the calls
// use little: a read(2) of 16 KiB that brings 40 bytes.

package refs

import "memtrace/format/addr"

// Parts of a buffer that a call does not access have to be opened before each call and
// closed behind it. Where that happens all the time the blocks are left open: they count
// as held from the next phase on.
const (
	stickFirst = 32  // times a phase that a block was opened for nothing, for the phase to end because of it
	stickAfter = 8   // and for others to stay open with it
	stickTimes = 256 // calls of a phase for which that was done, at least, before the phase ends because of it
	stickShare = 2   // the part of the pool that blocks may take for that is one of so many
)

// sticking are those blocks.
type sticking struct {
	idle  map[addr.Addr]int // blocks that were opened for nothing in this phase: how often
	calls int               // for which that was done
	often int               // blocks that are reason enough
	stuck map[addr.Addr]int // blocks that stay open: the calls of this phase that were given them
}

// opened notes that closed has been open for a call that did not access it.
func (k *sticking) opened(in blocks, pool int, closed *addr.Set) {
	if closed.Count() == 0 {
		return
	}
	k.calls++
	if k.idle == nil {
		k.idle = map[addr.Addr]int{}
	}
	for r := range closed.All() {
		if r.Len()/in.granule > uint64(pool/stickShare) {
			continue
		}
		for b := range in.Blocks(r) {
			if k.idle[b.Start]++; k.idle[b.Start] == stickFirst {
				k.often++
			}
		}
	}
}

// given notes that a call is given r.
func (k *sticking) given(in blocks, r addr.Range) {
	if uint64(len(k.stuck)) < r.Len()/in.granule {
		for b := range k.stuck {
			if r.Contains(b) {
				k.stuck[b]++
			}
		}
		return
	}
	for b := range in.Blocks(r) {
		if n, ok := k.stuck[b.Start]; ok {
			k.stuck[b.Start] = n + 1
		}
	}
}

// churn reports whether so much has been opened for nothing that another phase is to begin,
// for a pool of which open blocks are.
func (k *sticking) churn(pool, open int) bool {
	if k.often == 0 || k.calls < max(stickTimes, open) || k.calls%stickTimes != 0 {
		return false
	}
	inUse := 0
	for _, calls := range k.stuck {
		if calls > 0 {
			inUse++
		}
	}
	return inUse < pool/stickShare
}

// choose chooses the blocks that stay open in the phase that begins, of those that may. It
// returns those that have come to it now.
func (k *sticking) choose(pool int, may func(addr.Addr) bool) (added []addr.Addr) {
	for b, calls := range k.stuck {
		if k.stuck[b] = 0; calls == 0 {
			delete(k.stuck, b)
		}
	}
	for b, n := range k.idle {
		if n >= stickAfter && len(k.stuck) < pool/stickShare && may(b) {
			added = append(added, b)
			if k.stuck == nil {
				k.stuck = map[addr.Addr]int{}
			}
			k.stuck[b] = 0
		}
	}
	clear(k.idle)
	k.calls, k.often = 0, 0
	return added
}
