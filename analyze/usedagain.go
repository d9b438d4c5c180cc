package analyze

import (
	"fmt"

	"memtrace/format"
	"memtrace/replay"
)

// This file says of a log that was recorded with --referenced how much of a program's memory was
// used again in a while. Lost memory is not used; a cache is.

// clearing is what the large mappings of a program were when the kernel's bits were reset.
type clearing struct {
	t    float64 // seconds
	maps []mapUse
}

// usedAgain is what was used after that.
type usedAgain struct {
	from, to float64 // seconds
	maps     []mapAgain
}

// mapAgain is a mapping of which memory was used again.
type mapAgain struct {
	mapUse
	use  use
	old  float64 // bytes that were there before
	used float64 // bytes of them that were used
}

// reference takes a sample that is about the use of memory, if it is one.
func (s *samples) reference(im image, x *format.Sample, m *replay.Moment, t float64) bool {
	switch x.Source {
	default:
		return false
	case "cleared":
		s.cleared[im] = clearing{t, usesOf(x.Data)}
	case "referenced":
		c, ok := s.cleared[im]
		space := m.State.MMs[spaceOf(m.State, x.PID)]
		if delete(s.cleared, im); !ok || space == nil {
			break
		}
		a := usedAgain{from: c.t, to: t}
		for _, u := range usesOf(x.Data) {
			v, found := space.VMAs.Find(u.r.Start)
			use, counts := useOf(v)
			if !found || !counts {
				continue
			}
			old := overlapped(c.maps, u, func(o *mapUse) uint64 { return o.anon })
			// What is new was used too.
			used := float64(u.referenced) - max(0, float64(u.anon)-old)
			a.maps = append(a.maps, mapAgain{u, use, old, min(max(0, used), old)})
		}
		s.again[im] = append(s.again[im], a)
	}
	return true
}

// overlapped is how much of mappings is in the place of another.
func overlapped(list []mapUse, m mapUse, of func(*mapUse) uint64) (n float64) {
	for i := range list {
		if o := &list[i]; o.r.Overlaps(m.r) {
			n += float64(of(o)) * float64(min(o.r.End, m.r.End)-max(o.r.Start, m.r.Start)) / float64(o.r.Len())
		}
	}
	return n
}

// again is how much of the memory of one use, in mappings that grew, was used again.
type again struct {
	from, to  float64 // seconds
	old, used float64 // bytes
	grown     float64 // bytes of old that came in the time that is judged
}

// Bounds of what is said.
const (
	shownGrown = 0.25 // of a mapping must have come in the time that is judged: else its growth cannot be told from the rest
	tellsGrown = 0.5
	tellsShare = 0.8
)

func (a again) known() bool    { return a.old > 0 }
func (a again) share() float64 { return a.used / a.old }

// telling reports whether memory that grew by so much is in use: there is no telling where some
// of it is not.
func (a again) telling(rise float64) bool {
	return a.known() && a.grown >= max(tellsGrown*a.old, tellsGrown/2*rise) && a.share() >= tellsShare
}

func (a again) says(kind string, c collector) string {
	text := fmt.Sprintf("Of %s that were there at %s (%s), %.0f %% were used in the next %s", bytesOf(a.old), secs(a.from), inKind(kind), 100*a.share(), secs(a.to-a.from))
	if c != noCollector {
		text += fmt.Sprintf(", perhaps by %s collector", collectorNames[c])
	}
	return text + "."
}

// usedAgain is what was used again last in a window, by what it is for.
func (s *samples) usedAgain(im image, w window) (by [numUses]again) {
	var first []mapUse
	for i := range s.list {
		x := &s.list[i]
		if u := x.procs[im]; u.maps != nil && x.point(0).T >= w.from {
			first = u.maps
			break
		}
	}
	for _, a := range s.again[im] {
		if a.from < w.from || a.to > w.to {
			continue
		}
		by = [numUses]again{}
		for _, m := range a.maps {
			grown := m.old - overlapped(first, m.mapUse, func(o *mapUse) uint64 { return o.used })
			if m.old == 0 || grown < shownGrown*m.old {
				continue
			}
			b := &by[m.use]
			b.from, b.to = a.from, a.to
			b.old, b.used, b.grown = b.old+m.old, b.used+m.used, b.grown+grown
		}
	}
	return by
}

// usedAgain is that of a kind of verdicts.
func (p *program) usedAgain(kind string) again {
	for _, u := range []use{useHeap, useAnon} {
		if u.kind() == kind {
			return p.again[u]
		}
	}
	return again{}
}
