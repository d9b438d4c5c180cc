//go:build linux

// This file says what page references are asked for.

package pagetrace

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"memtrace/format/addr"
)

// Ask asks for page references: which pages a program uses, and when. The zero
// value asks for none.
type Ask struct {
	Engine Engine
	// Pool is how many blocks may be open at a time, 0 for as many as make the program
	// at most about twice as slow.
	Pool uint64
	// Granule is the size of a block in bytes, a power of 2 from a page to 2 MiB; 0 for a
	// page, and larger blocks where pages make the program too slow. With a Pool it is not 0.
	Granule uint64
}

// Engine is a way to see page references.
type Engine uint8

// The engines.
const (
	None Engine = iota
	Prot        // reads and writes: protections that let nobody in
	WP          // writes: write-protection by a userfaultfd
)

var engineNames = [...]string{"none", "prot", "wp"}

func (e Engine) String() string { return engineNames[e] }

// Sizes of pools and blocks. Each open block costs up to two of the 65,530 mappings
// that a process may have (vm.max_map_count).
const (
	leastPool  = 64
	mostPool   = 16384
	mostWrites = 1 << 20 // engine wp: nothing is split
	mostBlock  = 2 << 20
)

// ErrAsk says that what is asked for could not be understood.
var ErrAsk = errors.New("bad page trace")

// Parse reads a list such as "512,granule=64K": a pool in blocks, or with a
// suffix in bytes, or auto; or "write" for engine wp.
func Parse(s string) (Ask, error) {
	p := Ask{Engine: Prot}
	var bytes uint64
	for i, word := range strings.Split(s, ",") {
		name, value, has := strings.Cut(strings.TrimSpace(word), "=")
		var err error
		switch {
		case has && name == "granule":
			err = p.granule(value)
		case has && name == "engine":
			err = p.engine(value)
		case has:
			err = errors.New("want granule=SIZE or engine=prot or engine=wp")
		case name == "write":
			p.Engine = WP
		case i == 0:
			bytes, err = p.pool(name)
		default:
			err = errors.New("the pool comes first")
		}
		if err != nil {
			return Ask{}, fmt.Errorf("%w %q: %v", ErrAsk, word, err)
		}
	}
	if p.Granule == 0 && (p.Pool > 0 || bytes > 0 || p.Engine == WP) {
		p.Granule = addr.PageSize
	}
	if bytes > 0 {
		p.Pool = max(1, bytes/p.Granule)
	}
	return p, p.check()
}

// check says whether the pool is one that the engine can have.
func (p *Ask) check() error {
	most := uint64(mostPool)
	if p.Engine == WP {
		most = mostWrites
		if p.Granule != addr.PageSize {
			return fmt.Errorf("%w: engine wp has blocks of one page", ErrAsk)
		}
	}
	if p.Pool != 0 && (p.Pool < leastPool || p.Pool > most) {
		return fmt.Errorf("%w: a pool has between %d and %d blocks, not %d", ErrAsk, leastPool, most, p.Pool)
	}
	return nil
}

// pool reads a number of blocks, which it sets, or of bytes, which it returns.
func (p *Ask) pool(s string) (bytes uint64, err error) {
	if s == "auto" || s == "" {
		return 0, nil
	}
	n, size, err := parseAmount(s)
	if err != nil || n == 0 {
		return 0, errors.New("want a number of pages, a size such as 16M, auto or write")
	}
	if size {
		return n, nil
	}
	p.Pool = n
	return 0, nil
}

func (p *Ask) granule(s string) error {
	if s == "auto" {
		return nil
	}
	n, _, err := parseAmount(s)
	if err != nil || n < addr.PageSize || n > mostBlock || n&(n-1) != 0 {
		return errors.New("want a power of 2 from 4K to 2M, or auto")
	}
	p.Granule = n
	return nil
}

func (p *Ask) engine(s string) error {
	switch s {
	case "prot":
		p.Engine = Prot
	case "wp":
		p.Engine = WP
	default:
		return errors.New("want prot or wp")
	}
	return nil
}

// parseAmount reads a number with a suffix for KiB, MiB or GiB; size says that it had one.
func parseAmount(s string) (n uint64, size bool, err error) {
	shift := 0
	if len(s) > 0 {
		shift = map[byte]int{'K': 10, 'M': 20, 'G': 30, 'k': 10, 'm': 20, 'g': 30}[s[len(s)-1]]
	}
	if shift > 0 {
		s = s[:len(s)-1]
	}
	if n, err = strconv.ParseUint(s, 10, 64); err == nil && n > 1<<40 {
		err = errors.New("too large")
	}
	return n << shift, shift > 0, err
}

// String is what Parse reads, or none.
func (p Ask) String() string {
	if p.Engine == None {
		return "none"
	}
	pool := "auto"
	if p.Pool != 0 {
		pool = strconv.FormatUint(p.Pool, 10)
	}
	granule := "auto"
	if p.Granule != 0 {
		granule = strconv.FormatUint(p.Granule, 10)
	}
	return fmt.Sprintf("%s,granule=%s,engine=%v", pool, granule, p.Engine)
}
