package call

import "memtrace/format/arch"

// ChangesMM says whether the call with these arguments may change the mappings
// of the caller's address space: arch.ChangesMM made exact by the arguments.
// Contents are not its business: madvise(MADV_DONTNEED) changes no mapping.
func ChangesMM(id arch.ID, nr uint32, args *[6]uint64) bool {
	c, ok := id.Syscall(nr)
	if !ok {
		return false
	}
	if c.Flags&arch.ChangesMM == 0 {
		return c.Name == "ioctl" && registersUffd(uint32(args[1]))
	}
	switch c.Name {
	case "madvise":
		return splits(uint32(args[2]))
	case "process_madvise":
		return splits(uint32(args[3]))
	case "prctl":
		switch uint32(args[0]) {
		case PrSetVMA, prSetMM, 67, 75: // PR_SET_MEMORY_MERGE, PR_SET_SHADOW_STACK_STATUS
			return true
		}
		return false
	case "arch_prctl":
		switch uint32(args[0]) {
		case 0x2001, 0x2002, 0x2003, 0x5001, 0x5002: // ARCH_MAP_VDSO_*, ARCH_SHSTK_*ABLE
			return true
		}
		return false
	case "ipc":
		op := args[0] & 0xffff
		return op == 21 || op == 22
	}
	return true
}

// splits says whether an advice is kept in the mapping, so that a part of one
// becomes a mapping of its own.
func splits(advice uint32) bool {
	switch advice {
	case 3, 4, 8, 9, 20, 21, 22, 23, 24, 25, 100, 101:
		return false
	}
	return true
}

// Drops says whether an advice of madvise throws contents away.
func Drops(advice uint32) bool {
	switch advice {
	case 4, 8, 9, 24, 102: // DONTNEED, FREE, REMOVE, DONTNEED_LOCKED, GUARD_INSTALL
		return true
	}
	return false
}

// registersUffd: the ioctls of a userfaultfd that mark mappings.
func registersUffd(req uint32) bool { return req == 0xc020aa00 || req == 0x8010aa01 }
