package format

import (
	"slices"
	"sort"
)

// A pageMap says for every page of an address space what is known of it. It is
// a directory of regions of 512 leaves of 512 pages (1 GiB); ranges that are
// all alike are intervals in the directory or single nodes, so that a record
// may cover 2^45 pages and cost nothing. Clones share nodes until one side
// changes them.
type pageMap struct {
	own  *owner // nodes with this owner may be changed in place
	dir  []dent // sorted, disjoint
	cow  bool   // dir is shared with a clone
	load loader
	mem  *budget // what nodes take is added to
}

// What nodes take, in bytes.
const (
	leafBytes   = leafPages*24 + 64
	regionBytes = regionLeafs*8 + 64
	nodeBytes   = 104
	editBytes   = 24
	dentBytes   = 40
)

// size is what is not in seen yet.
func (p *pageMap) size(seen *counted) (n int64) {
	if len(p.dir) == 0 || seen.dirs[&p.dir[0]] {
		return 0
	}
	seen.dirs[&p.dir[0]] = true
	add := func(x *node) {
		if x == nil || seen.nodes[x] {
			return
		}
		seen.nodes[x] = true
		n += nodeBytes + int64(cap(x.few))*editBytes
		if x.tab != nil {
			n += leafBytes
		}
	}
	n = int64(cap(p.dir)) * dentBytes
	for i := range p.dir {
		add(p.dir[i].uni)
		if r := p.dir[i].reg; r != nil && !seen.regions[r] {
			seen.regions[r] = true
			n += regionBytes
			for _, x := range r.nodes {
				add(x)
			}
		}
	}
	return n
}

func (p *pageMap) took(n int64) {
	if p.mem != nil {
		p.mem.took(n)
	}
}

// worked notes n units of effort.
func (p *pageMap) worked(n int) {
	if p.mem != nil {
		p.mem.work += uint64(n)
	}
}

// owner is an identity: it must not be of size 0, or all would be one.
type owner struct{ _ byte }

// loader fetches a leaf of a keyframe.
type loader func(id uint64) (*[leafPages]cell, error)

const (
	leafShift   = 9
	leafPages   = 1 << leafShift
	regionShift = 2 * leafShift // in pages
	regionLeafs = 1 << leafShift
)

// cell is what is known of a page: ent is kind | ref<<entShift, 0 for nothing.
type cell struct {
	ent           uint64
	asOf, changed uint64 // steps; changed may carry maybeBit
}

const (
	entShift          = 3
	entKind           = 1<<entShift - 1
	entInherit        = 7       // as in the leaf that the node stands for
	maybeBit          = 1 << 63 // changed only if the inherited entry differs
	entNext           = 2 << entShift
	maxRef            = 1<<60 - 1
	maxInitial        = ^uint64(0)
	dirLast    uint64 = MaxPageNo >> regionShift
)

// dent is an entry of the directory: regions first to last (inclusive), which
// are all like node, or if reg is set one region in detail.
type dent struct {
	first, last uint64
	reg         *region
	uni         *node
}

type region struct {
	own   *owner
	nodes [regionLeafs]*node // nil: nothing known
}

// node is what is known of 512 pages: all alike (tab is nil and id 0), a table,
// or leaf id-1 of the log's keyframes, then with later changes where there are
// any (lazy): a few, or a table of them.
type node struct {
	own  *owner
	tab  *[leafPages]cell
	few  []edit // if tab is nil
	id   uint64 // 1 + id of the leaf in the log that is equal (or, lazy, inherited from)
	lazy bool
	uni  cell
}

// edit is a fill of n pages of a node from page i on. A seek makes many, few in
// each node, and mostly looks at one: tables would cost it a megabyte.
type edit struct {
	ent, step uint64
	i, n      uint16
}

// maxFew is how many edits a node has before they become a table, and how many
// pages one may be of that is not of all.
const maxFew = 64

// apply is what page i becomes by e.
func (e *edit) apply(c cell, i int) cell {
	if i -= int(e.i); i < 0 || i >= int(e.n) {
		return c
	}
	f := fill{step: e.step}
	return f.put(c, e.ent+strideOf(e.ent)*uint64(i))
}

// later fills t with the changes of a lazy node since its leaf.
func (n *node) later(t *[leafPages]cell) {
	if n.tab != nil {
		*t = *n.tab
		return
	}
	for i := range t {
		t[i] = cell{ent: entInherit}
	}
	for k := range n.few {
		e := &n.few[k]
		for i := int(e.i); i < int(e.i+e.n); i++ {
			t[i] = e.apply(t[i], i)
		}
	}
}

func (p *pageMap) clone() pageMap {
	p.cow = true
	p.own = new(owner)
	return pageMap{own: new(owner), dir: p.dir, cow: true, load: p.load, mem: p.mem}
}

func (p *pageMap) search(reg uint64) int {
	return sort.Search(len(p.dir), func(i int) bool { return p.dir[i].last >= reg })
}

// find is the node of a page, nil for nothing known.
func (p *pageMap) find(vpn uint64) *node {
	reg := vpn >> regionShift
	i := p.search(reg)
	if i == len(p.dir) || p.dir[i].first > reg {
		return nil
	}
	if d := &p.dir[i]; d.reg != nil {
		return d.reg.nodes[vpn>>leafShift%regionLeafs]
	} else {
		return d.uni
	}
}

// get is what is known of a page.
func (p *pageMap) get(vpn uint64) (cell, error) {
	n := p.find(vpn)
	if n == nil {
		return cell{}, nil
	}
	return p.cell(n, int(vpn%leafPages))
}

// cell is entry i of a node, with what it inherits.
func (p *pageMap) cell(n *node, i int) (cell, error) {
	if !n.lazy {
		if n.tab == nil {
			return n.uni, nil
		}
		return n.tab[i], nil
	}
	c := cell{ent: entInherit}
	if n.tab != nil {
		c = n.tab[i]
	}
	for k := range n.few {
		c = n.few[k].apply(c, i)
	}
	if c.ent != entInherit && c.changed&maybeBit == 0 {
		return c, nil
	}
	base, err := p.load(n.id - 1)
	if err != nil {
		return cell{}, err
	}
	return c.over(base[i]), nil
}

// over resolves an entry of a lazy node above what it inherits from.
func (c cell) over(base cell) cell {
	switch {
	case c.ent == entInherit:
		return base
	case c.changed&maybeBit == 0:
	case c.ent == base.ent:
		c.changed = base.changed
	default:
		c.changed &^= maybeBit
	}
	return c
}

// fill is what a range of pages becomes.
type fill struct {
	ent, stride uint64 // of the first page, and what each further one adds
	step        uint64
	exact       bool // asOf and changed are given (a move), not found by comparing
	changed     uint64
}

// put is what old becomes by ent.
func (f *fill) put(old cell, ent uint64) cell {
	switch {
	case ent == 0:
		return cell{}
	case f.exact:
		return cell{ent, f.step, f.changed}
	case old.ent == ent:
		return cell{ent, f.step, old.changed}
	case old.ent == entInherit:
		return cell{ent, f.step, f.step | maybeBit}
	}
	return cell{ent, f.step, f.step}
}

// set makes pages lo to hi (exclusive) what f says.
func (p *pageMap) set(lo, hi uint64, f fill) {
	for lo < hi {
		reg := lo >> regionShift
		if f.stride == 0 && lo&(1<<regionShift-1) == 0 && hi-lo >= 1<<regionShift {
			last := hi >> regionShift
			p.setRegions(reg, last-1, &f)
			lo = last << regionShift
			continue
		}
		// A part of one region.
		end := min(hi, (reg+1)<<regionShift)
		r := p.region(reg, f.ent != 0)
		if r == nil { // clearing what is not there
			lo = end
			continue
		}
		for lo < end {
			le := min(end, (lo|(leafPages-1))+1)
			p.setLeaf(&r.nodes[lo>>leafShift%regionLeafs], int(lo%leafPages), int(le-lo), f)
			f.ent += f.stride * (le - lo)
			lo = le
		}
	}
}

func (p *pageMap) edit() {
	if p.own == nil {
		p.own = new(owner)
	}
	if p.cow {
		p.dir, p.cow = slices.Clone(p.dir), false
		p.took(int64(cap(p.dir)) * dentBytes)
	}
}

// region returns a region that may be changed in place; with make false it
// returns nil where nothing is known.
func (p *pageMap) region(reg uint64, make bool) *region {
	i := p.search(reg)
	if i == len(p.dir) || p.dir[i].first > reg {
		if !make {
			return nil
		}
		p.edit()
		p.took(regionBytes + dentBytes)
		p.worked(len(p.dir))
		r := &region{own: p.own}
		p.dir = slices.Insert(p.dir, i, dent{first: reg, last: reg, reg: r})
		return r
	}
	p.edit()
	d := p.dir[i]
	if d.reg == nil {
		p.took(regionBytes + 2*dentBytes)
		p.worked(len(p.dir))
		r := &region{own: p.own}
		for k := range r.nodes {
			r.nodes[k] = d.uni
		}
		var with [3]dent
		w := with[:0]
		if d.first < reg {
			w = append(w, dent{first: d.first, last: reg - 1, uni: d.uni})
		}
		w = append(w, dent{first: reg, last: reg, reg: r})
		if reg < d.last {
			w = append(w, dent{first: reg + 1, last: d.last, uni: d.uni})
		}
		p.dir = slices.Replace(p.dir, i, i+1, w...)
		return r
	}
	if d.reg.own != p.own {
		p.took(regionBytes)
		r := *d.reg
		r.own = p.own
		p.dir[i].reg = &r
	}
	return p.dir[i].reg
}

// setRegions fills whole regions, all pages alike.
func (p *pageMap) setRegions(first, last uint64, f *fill) {
	lo := p.search(first)
	hi := lo
	for hi < len(p.dir) && p.dir[hi].first <= last {
		hi++
	}
	if lo == hi && f.ent == 0 {
		return
	}
	p.edit()
	var out []dent
	next := first // the first region not dealt with
	gap := func(to uint64) {
		if next < to && f.ent != 0 {
			out = append(out, dent{first: next, last: to - 1, uni: &node{uni: f.put(cell{}, f.ent)}})
		}
	}
	for _, d := range p.dir[lo:hi] {
		if d.first < first {
			out = append(out, dent{first: d.first, last: first - 1, uni: d.uni})
		}
		a, b := max(d.first, first), min(d.last, last)
		gap(a)
		next = b + 1
		switch {
		case f.ent == 0:
		case d.reg == nil:
			out = append(out, dent{first: a, last: b, uni: &node{uni: f.put(d.uni.uni, f.ent)}})
		default:
			r := d.reg
			if r.own != p.own {
				p.took(regionBytes)
				c := *r
				c.own, r = p.own, &c
			}
			p.setAll(r, f)
			if p.over() {
				return
			}
			out = append(out, dent{first: a, last: b, reg: r})
		}
		if d.last > last {
			out = append(out, dent{first: last + 1, last: d.last, uni: d.uni})
		}
	}
	gap(last + 1)
	p.took(int64(len(out)) * (dentBytes + nodeBytes))
	if len(out) != hi-lo {
		p.worked(len(p.dir))
	}
	p.dir = slices.Replace(p.dir, lo, hi, out...)
}

// setAll fills all pages of a region alike.
func (p *pageMap) setAll(r *region, f *fill) {
	p.worked(regionLeafs)
	var was cell
	var same *node // of what was
	for i, n := range r.nodes {
		if n != nil && (n.tab != nil || n.id != 0) {
			p.setLeaf(&r.nodes[i], 0, leafPages, *f)
			continue
		}
		var c cell
		if n != nil {
			c = n.uni
		}
		if same == nil || c != was {
			p.took(nodeBytes)
			was, same = c, &node{own: p.own, uni: f.put(c, f.ent)}
		}
		r.nodes[i] = same
	}
}

// setLeaf fills pages i to i+n of a node.
func (p *pageMap) setLeaf(np **node, i, n int, f fill) {
	old := *np
	whole := n == leafPages
	switch {
	case whole && f.ent == 0:
		*np = nil
		return
	case whole && f.stride == 0 && (f.exact || old == nil || old.tab == nil && old.id == 0):
		var was cell
		if old != nil {
			was = old.uni
		}
		p.took(nodeBytes)
		*np = &node{own: p.own, uni: f.put(was, f.ent)}
		return
	case old == nil && f.ent == 0:
		return
	case old != nil && old.lazy && old.tab == nil && !f.exact && (n <= maxFew || n == leafPages) && len(old.few) < maxFew:
		if old.own != p.own {
			p.took(nodeBytes + int64(len(old.few))*editBytes)
			old = &node{own: p.own, id: old.id, lazy: true, few: append(make([]edit, 0, len(old.few)+8), old.few...)}
			*np = old
		}
		p.took(2 * editBytes)
		old.few = append(old.few, edit{f.ent, f.step, uint16(i), uint16(n)})
		return
	}
	nd := p.own1(np)
	t := nd.tab
	ent := f.ent
	for k := i; k < i+n; k++ {
		t[k] = f.put(t[k], ent)
		ent += f.stride
	}
}

// own1 makes *np a node with a table that may be changed in place.
func (p *pageMap) own1(np **node) *node {
	old := *np
	if old != nil && old.own == p.own && old.tab != nil {
		if !old.lazy {
			old.id = 0
		}
		return old
	}
	p.took(leafBytes)
	nd := &node{own: p.own, tab: new([leafPages]cell)}
	switch {
	case old == nil:
	case old.lazy:
		nd.id, nd.lazy = old.id, true
		old.later(nd.tab)
	case old.tab != nil:
		*nd.tab = *old.tab
	default:
		for k := range nd.tab {
			nd.tab[k] = old.uni
		}
	}
	*np = nd
	return nd
}

// table is all that is known of a node's pages: a table, not to be changed, or
// what they all are.
func (p *pageMap) table(n *node) (uni cell, tab *[leafPages]cell, err error) {
	switch {
	case n == nil:
		return cell{}, nil, nil
	case !n.lazy:
		return n.uni, n.tab, nil
	}
	base, err := p.load(n.id - 1)
	if err != nil || n.tab == nil && n.few == nil {
		return cell{}, base, err
	}
	var t [leafPages]cell
	n.later(&t)
	for i := range t {
		t[i] = t[i].over(base[i])
	}
	return cell{}, &t, nil
}

// run is a stretch of pages: all alike (n >= 1, cells nil), or one by one.
type run struct {
	vpn, n uint64
	uni    cell
	cells  []cell
}

// runs yields what is known of pages lo to hi (exclusive), in order and without
// what nothing is known of (but for entries of tables). Cells must not be kept.
func (p *pageMap) runs(lo, hi uint64, yield func(run) bool) error {
	if lo >= hi {
		return nil
	}
	for i := p.search(lo >> regionShift); i < len(p.dir); i++ {
		d := p.dir[i]
		a, b := max(lo, d.first<<regionShift), min(hi, (d.last+1)<<regionShift)
		if a >= b {
			return nil
		}
		if d.reg == nil {
			if !yield(run{vpn: a, n: b - a, uni: d.uni.uni}) {
				return nil
			}
			continue
		}
		for a < b {
			e := min(b, (a|(leafPages-1))+1)
			nd := d.reg.nodes[a>>leafShift%regionLeafs]
			if nd == nil {
				a = e
				continue
			}
			uni, tab, err := p.table(nd)
			if err != nil {
				return err
			}
			r := run{vpn: a, n: e - a, uni: uni}
			if tab != nil {
				r.cells = tab[a%leafPages : (e-1)%leafPages+1]
			}
			if !yield(r) {
				return nil
			}
			a = e
		}
	}
	return nil
}

// move takes what is known of n pages from one place to another; the old place
// knows nothing then. It returns the work done, in pages.
func (p *pageMap) move(from, to, n uint64) (work uint64, err error) {
	var all []run
	err = p.runs(from, from+n, func(r run) bool {
		r.cells = slices.Clone(r.cells)
		all = append(all, r)
		work += 16 + uint64(len(r.cells))
		p.took(int64(len(r.cells)) * 24)
		return !p.over()
	})
	if err != nil {
		return work, err
	}
	p.set(from, from+n, fill{})
	p.set(to, to+n, fill{})
	for _, r := range all {
		at := r.vpn - from + to
		if r.cells == nil {
			if r.uni.ent != 0 {
				p.set(at, at+r.n, fill{ent: r.uni.ent, step: r.uni.asOf, exact: true, changed: r.uni.changed})
			}
			continue
		}
		for len(r.cells) > 0 {
			reg := p.region(at>>regionShift, true)
			nd := p.own1(&reg.nodes[at>>leafShift%regionLeafs])
			k := copy(nd.tab[at%leafPages:], r.cells)
			r.cells = r.cells[k:]
			at += uint64(k)
		}
	}
	return work, nil
}
