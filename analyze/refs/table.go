package refs

// table maps page numbers to the places where their pages are kept: a hash table
// with open addressing, as looking up is most of what there is to do.
type table struct {
	list []placed
	n    int
}

// placed is a page number + 1 (0 for none) and its place.
type placed struct {
	key   uint64
	place uint32
}

func newTable() *table { return &table{list: make([]placed, 1<<10)} }

// at is where a key is, or where it is to be put.
func (t *table) at(key uint64) *placed {
	mask := uint64(len(t.list) - 1)
	h := key * 0x9e3779b97f4a7c15
	for i := (h ^ h>>32) & mask; ; i = (i + 1) & mask {
		if p := &t.list[i]; p.key == key || p.key == 0 {
			return p
		}
	}
}

// get finds the place of a page, or makes next its place.
func (t *table) get(page uint64, next uint32) (place uint32, known bool) {
	p := t.at(page + 1)
	if p.key != 0 {
		return p.place, true
	}
	*p = placed{page + 1, next}
	if t.n++; t.n > len(t.list)*5/8 {
		old := t.list
		t.list = make([]placed, 2*len(old))
		for _, p := range old {
			if p.key != 0 {
				*t.at(p.key) = p
			}
		}
	}
	return next, false
}
