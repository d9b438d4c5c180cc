package refs

// Optimum counts how many references miss in a memory of some pages that always gives
// up the page which is used farthest in the future (Belady's MIN), cold misses
// among them. refs are the places of the pages in their order, below pages.
//
// Of recorded references it is a lower bound of what any memory misses: those that
// were not recorded can only make more.
type Optimum struct {
	refs  []uint32
	next  []uint32 // when the page is referenced next; len(refs): not again
	pages int
}

// NewOptimum prepares for Misses; refs is kept. There may be at most 2^32-2.
func NewOptimum(refs []uint32, pages int) *Optimum {
	o := &Optimum{refs: refs, next: make([]uint32, len(refs)), pages: pages}
	last := make([]uint32, pages)
	for i := range last {
		last[i] = uint32(len(refs))
	}
	for i := len(refs) - 1; i >= 0; i-- {
		o.next[i] = last[refs[i]]
		last[refs[i]] = uint32(i)
	}
	return o
}

// Misses counts the misses of a memory of at least one page.
func (o *Optimum) Misses(size int) (misses uint64) {
	in := make([]bool, o.pages)
	n, dead := 0, 0 // pages in memory, and those of them that are not referenced again
	var h farthest
	for i, p := range o.refs {
		now := uint32(i)
		if !in[p] {
			misses++
			switch {
			case n < size:
				n++
			case dead > 0:
				dead--
			default:
				// What was referenced since lies before now: the others go first.
				in[o.refs[h.pop()]] = false
			}
			in[p] = true
		}
		if next := o.next[i]; next == uint32(len(o.refs)) {
			dead++
		} else {
			if len(h) > 2*size+1<<10 {
				h.drop(now)
			}
			h.push(next)
		}
	}
	return misses
}

// farthest is a heap with the largest at the top.
type farthest []uint32

func (h *farthest) push(v uint32) {
	s := append(*h, v)
	i := len(s) - 1
	for i > 0 {
		up := (i - 1) / 2
		if s[up] >= v {
			break
		}
		s[i] = s[up]
		i = up
	}
	s[i] = v
	*h = s
}

func (h *farthest) pop() uint32 {
	s := *h
	top, v := s[0], s[len(s)-1]
	s = s[:len(s)-1]
	if len(s) > 0 {
		s.down(0, v)
	}
	*h = s
	return top
}

// down puts v in place i, or lower.
func (h farthest) down(i int, v uint32) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			break
		}
		if c+1 < len(h) && h[c+1] > h[c] {
			c++
		}
		if h[c] <= v {
			break
		}
		h[i] = h[c]
		i = c
	}
	h[i] = v
}

// drop takes out what is now or before.
func (h *farthest) drop(now uint32) {
	s := (*h)[:0]
	for _, v := range *h {
		if v > now {
			s = append(s, v)
		}
	}
	for i := len(s)/2 - 1; i >= 0; i-- {
		s.down(i, s[i])
	}
	*h = s
}
