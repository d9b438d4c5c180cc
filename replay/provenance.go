package replay

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"memtrace/format"
	"memtrace/format/addr"
)

// Piece is a stretch of memory of which the same is known at a step.
type Piece struct {
	Range addr.Range
	Bytes []byte // nil if they are not known
	Err   error  // why they are not
	// AsOf is the step at which the bytes were captured or confirmed last. They
	// are exact if it is the step asked for.
	AsOf format.Step
	Call bool // the call of that step wrote them
	// The page changed to what it holds after step After, and not later than
	// Changed. After is Changed where nothing was known of it before.
	After, Changed format.Step
}

// MaxProvenance is how many bytes Provenance looks at.
const MaxProvenance = 64 << 20

// Provenance tells what is known of r and since when. The View is the trace's.
func (t *Trace) Provenance(s *AddressSpace, r addr.Range) ([]Piece, error) {
	if r.Len() > MaxProvenance {
		return nil, fmt.Errorf("%d bytes are too many to tell where they come from: want at most %d", r.Len(), MaxProvenance)
	}
	var out []Piece
	before := map[format.Step]*format.State{}
	var page [addr.PageSize]byte
	for at := r.Start; at < r.End; at = pageAt(at).End {
		parts, err := s.Stretches(at, &page)
		if err != nil {
			return nil, err
		}
		for _, x := range parts {
			p := Piece{Range: x.Range.Intersect(r), AsOf: x.AsOf, Call: x.Call, Err: x.Err}
			if p.Range.Empty() {
				continue
			}
			switch {
			case x.Err != nil:
				p.AsOf, p.Err = 0, from(x.Err, p.Range.Start)
			case x.Call:
				p.After, p.Changed = x.AsOf, x.AsOf
			default:
				info, _ := s.mm.Page(at)
				p.Changed = info.Changed
				if p.After, err = t.knownBefore(before, s.No(), at, info.Changed); err != nil {
					return nil, err
				}
			}
			if x.Err == nil {
				p.Bytes = append([]byte(nil), page[p.Range.Start-at.PageDown():p.Range.End-at.PageDown()]...)
			}
			if n := len(out); n > 0 {
				l := &out[n-1]
				if l.AsOf == p.AsOf && l.Call == p.Call && l.Changed == p.Changed && l.After == p.After && sentinel(l.Err) == sentinel(p.Err) {
					l.Range.End, l.Bytes = p.Range.End, append(l.Bytes, p.Bytes...)
					continue
				}
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// knownBefore is the last step before n at which something else was known of the
// page at a; n if nothing was.
func (t *Trace) knownBefore(states map[format.Step]*format.State, mm uint32, a addr.Addr, n format.Step) (format.Step, error) {
	if n <= t.First() {
		return n, nil
	}
	s := states[n]
	if s == nil {
		var err error
		if s, err = t.r.StateAt(n - 1); err != nil {
			return n, err
		}
		states[n] = s
	}
	if m := s.MMs[mm]; m != nil {
		if info, ok := m.Page(a); ok && info.Err == nil && (info.What == format.PageData || info.What == format.PageZero || info.What == format.PageFile) {
			return info.AsOf, nil
		}
	}
	return n, nil
}

// AppendJSON appends the piece as a JSON object; n is the step asked for.
func (p *Piece) AppendJSON(b []byte, n format.Step) []byte {
	b = hexStr(append(b, `{"start":`...), uint64(p.Range.Start))
	b = hexStr(key(b, "end"), uint64(p.Range.End))
	if p.Err != nil {
		return append(str(key(b, "unknown"), p.Err.Error()), '}')
	}
	b = strconv.AppendUint(key(b, "as_of"), uint64(p.AsOf), 10)
	b = strconv.AppendBool(key(b, "exact"), p.AsOf == n)
	source := "snapshot"
	if p.Call {
		source = "call"
	}
	b = str(key(b, "source"), source)
	if p.After != p.Changed {
		b = strconv.AppendUint(key(b, "changed_after"), uint64(p.After), 10)
	}
	b = strconv.AppendUint(key(b, "changed"), uint64(p.Changed), 10)
	return append(str(key(b, "bytes"), hex.EncodeToString(p.Bytes)), '}')
}
