package format

import "memtrace/format/addr"

// Page reads the page of data that ref refers to.
func (r *Reader) Page(ref PageRef, dst *[addr.PageSize]byte) error {
	if ref.Redacted() {
		return ErrRedacted
	}
	if ref&1 == 0 {
		_, err := r.rawPage(uint64(ref>>1), dst)
		return err
	}
	// The patches that lead to it, newest first, down to a page stored whole.
	var chain [MaxPatchDepth][]byte
	n, size := 0, 0
	var last int64
	for ref&1 != 0 {
		id := uint64(ref >> 1)
		e, err := r.x.holding(TypePatch, id)
		if err != nil {
			return err
		}
		f, err := r.patchFrame(e)
		if err != nil {
			return err
		}
		if e.off != last {
			last = e.off
			size += len(f.payload)
		}
		if n == MaxPatchDepth {
			return at(e.off, overLimit("the depth of a patch", uint64(n)+1, MaxPatchDepth))
		}
		if size > MaxChain {
			return at(e.off, overLimit("what a page needs to be decoded", uint64(size), MaxChain))
		}
		chain[n] = f.patch(id - e.base)
		n++
		ref = f.from[id-e.base]
	}
	off, err := r.rawPage(uint64(ref>>1), dst)
	if err != nil {
		return err
	}
	for n--; n >= 0; n-- {
		if err := applyPatch(dst, chain[n]); err != nil {
			return at(off, err)
		}
	}
	return nil
}

func (r *Reader) patchFrame(e entry) (*patchFrame, error) {
	if f, ok := r.patches.get(e.off); ok {
		return f, nil
	}
	b, err := r.read(e)
	if err != nil {
		return nil, err
	}
	f, err := parsePatches(b, e.base, e.count)
	if err != nil {
		return nil, at(e.off, err)
	}
	r.patches.put(e.off, f, int64(len(b))+12*int64(e.count)+128)
	return f, nil
}

// rawPage reads a page that is stored whole, and says where its chunk is.
func (r *Reader) rawPage(id uint64, dst *[addr.PageSize]byte) (int64, error) {
	e, err := r.x.holding(TypeRaw, id)
	if err != nil {
		return 0, err
	}
	b, err := r.cached(e)
	if err == nil {
		copy(dst[:], b[(id-e.base)*addr.PageSize:])
	}
	return e.off, err
}
