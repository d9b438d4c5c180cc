package analyze

import (
	"bytes"
	"strconv"

	"memtrace/format/addr"
	"memtrace/format/proctext"
)

// mapUse is what a sample says of one large mapping: its anonymous memory, resident or swapped
// out, without what the program has said it does not need.
type mapUse struct {
	r          addr.Range
	used       uint64 // bytes
	anon       uint64 // bytes of it that are resident, lazy ones included
	referenced uint64 // bytes that were used since the kernel's bits were reset
}

// usesOf reads the text of the source "smaps" of a sample: of each large mapping its range and
// some of the lines that /proc/PID/smaps has.
func usesOf(text []byte) (list []mapUse) {
	list = []mapUse{}
	lazy := uint64(0)
	done := func() {
		if n := len(list); n > 0 {
			list[n-1].used -= min(lazy, list[n-1].used)
		}
		lazy = 0
	}
	for line := range bytes.Lines(text) {
		key, value, ok := proctext.Line(line)
		if !ok {
			done()
			if r, ok := rangeOf(line); ok {
				list = append(list, mapUse{r: r})
			}
			continue
		}
		if len(list) == 0 {
			continue
		}
		n, _ := value.Size()
		switch m := &list[len(list)-1]; string(key) {
		case "Anonymous":
			m.used += n
			m.anon = n
		case "Swap":
			m.used += n
		case "Referenced":
			m.referenced = n
		case "LazyFree":
			lazy = n
		}
	}
	done()
	return list
}

// rangeOf reads "START-END PERMS".
func rangeOf(line []byte) (r addr.Range, ok bool) {
	from, rest, _ := bytes.Cut(line, []byte("-"))
	to, _, _ := bytes.Cut(rest, []byte(" "))
	a, err := strconv.ParseUint(string(from), 16, 64)
	b, err2 := strconv.ParseUint(string(to), 16, 64)
	return addr.Range{Start: addr.Addr(a), End: addr.Addr(b)}, err == nil && err2 == nil && a < b
}

// filling is the mapping in which a program came to use more memory.
type filling struct {
	mapUse
	rise float64 // bytes
}

// filled is the mapping whose memory in use rose most in a window, if it takes the most of a
// rise. One that was not large at first had at most a mebibyte.
func (s *samples) filled(im image, w window, rise float64) (f filling, ok bool) {
	var first, last []mapUse
	for i := range s.list {
		x := &s.list[i]
		u, there := x.procs[im]
		if t := x.point(0).T; !there || u.maps == nil || t < w.from || t > w.to {
			continue
		}
		if last = u.maps; first == nil {
			first = last
		}
	}
	for _, m := range last {
		before := uint64(0)
		for _, o := range first {
			if o.r.Overlaps(m.r) {
				before += o.used
			}
		}
		if r := float64(m.used) - float64(before); r > f.rise {
			f = filling{m, r}
		}
	}
	return f, f.rise > rise/2
}
