package format

import "iter"

// Info is what a log says of itself as a whole.
type Info struct {
	First     Step   // of the first event: 0, but in a log that does not begin with its run
	Steps     Step   // the step after the last event: their number, in a log that begins with its run
	Time      uint64 // of the last event, ns since the start
	Size      int64  // bytes of the file that count
	Reason    string // why the recording ended, as Writer.Close was told
	Truncated bool   // the log has no end: what is beyond the last complete group is lost

	Pages     uint64 // pages of data that were given to the writer
	RawPages  uint64 // of which stored whole
	Patches   uint64 // stored as differences
	ZeroPages uint64 // found to be zero
	Same      uint64 // found to be as they were
	Shared    uint64 // found to be equal to another page of the log
	Keyframes uint64
	Refs      uint64 // references to pages

	types [numTypes]typeTotals
}

// totals lists the numbers of the ROOT chunk in their order; new ones go last.
func (i *Info) totals() []*uint64 {
	return []*uint64{
		(*uint64)(&i.Steps), &i.Time, &i.Pages, &i.RawPages, &i.Patches, &i.ZeroPages, &i.Same, &i.Shared, &i.Keyframes, &i.Refs,
	}
}

// Usage is what the chunks of one type take.
type Usage struct {
	Type    Type
	Chunks  uint64
	Stored  uint64 // bytes of the file
	Decoded uint64 // bytes before compression
}

// Usage yields the types of chunk that the log has. A truncated log knows only
// the Stored bytes and what it has looked at of the others.
func (i *Info) Usage() iter.Seq[Usage] {
	return func(yield func(Usage) bool) {
		for t, c := range i.types {
			if c.chunks > 0 && !yield(Usage{Type(t), c.chunks, c.stored, c.decoded}) {
				return
			}
		}
	}
}
