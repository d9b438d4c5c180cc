package arch

// Advice is what an advice of madvise(2) does to the contents of memory. Other
// advice leaves them as they are.
type Advice uint8

// What an advice does.
const (
	// Drops: the contents are gone when the call is over.
	Drops Advice = 1 << iota
	// DropsLater: the kernel takes the contents of a page when it wants to, unless
	// the page is written to before.
	DropsLater
	// LeavesZeros: private anonymous memory reads as zero after it was dropped. What
	// else dropped memory holds is not known: its file or shared memory may have
	// been written to by others, and a guard page cannot be read.
	LeavesZeros
	// WipesOnFork: a child of the process gets zeros.
	WipesOnFork
	// KeepsOnFork undoes WipesOnFork.
	KeepsOnFork
)

// advice is by number (include/uapi/asm-generic/mman-common.h), which is the same
// on all architectures here.
var advice = map[uint32]Advice{
	4:   Drops | LeavesZeros, // MADV_DONTNEED
	8:   DropsLater,          // MADV_FREE
	9:   Drops,               // MADV_REMOVE
	18:  WipesOnFork,         // MADV_WIPEONFORK
	19:  KeepsOnFork,         // MADV_KEEPONFORK
	24:  Drops | LeavesZeros, // MADV_DONTNEED_LOCKED
	102: Drops,               // MADV_GUARD_INSTALL
}

// AdviceOf is what the advice with a number does. The kernel looks at its low 32
// bits.
func AdviceOf(number uint64) Advice { return advice[uint32(number)] }

// Is says whether the advice does one of some things.
func (a Advice) Is(some Advice) bool { return a&some != 0 }
