package call

import "memtrace/format/arch"

// PieceKind says how long a Piece is, and when it is read.
type PieceKind uint8

// The kinds. The values are those of record/inproc/blob.gas.
const (
	PieceString   PieceKind = iota + 1 // before the call: up to a NUL, of at most Most bytes with it
	PieceInFixed                       // before the call: Most bytes
	PieceInLen                         // before the call: Args[N]*Unit bytes, at most Most
	PieceOutFixed                      // after a call that did not fail: Most bytes
	PieceOutRet                        // the same: Ret*Unit bytes, at most Args[N] unless N is 0, at most Most
	PieceOutLen                        // the same: Args[N]*Unit bytes, at most Most
	_                                  // a name, in record/inproc
	PieceOutPtr                        // the same: as many as the 32-bit number at Args[N] says, at most Most
)

// Piece is memory that a Collector reads around a call, or more: enough for a Read of it.
type Piece struct {
	Kind   PieceKind
	Arg, N uint8 // the argument that points at it, and that which has its length
	Unit   uint8
	Most   uint32
}

// Plan says what memory a Collector with these limits reads around a call. arg1 is the
// call's argument 1, on which that may depend. ok is false where it cannot be said in
// these words: for lists of buffers, pointers in structs and the like.
func (k *Collector) Plan(id arch.ID, nr uint32, arg1 uint64) (pieces []Piece, ok bool) {
	s := lookup(id, nr)
	if s == nil || s.mux != nil {
		return nil, false
	}
	args := [6]uint64{1: arg1}
	for i := range s.caps {
		c := &s.caps[i]
		if c.If != (condition{}) {
			if c.If.Arg != 1 {
				return nil, false
			}
			if !c.If.Holds(&args) {
				continue
			}
		}
		if c.Level > k.Level || c.Interrupted || c.At == atExit && k.MaxData < 0 && c.Level == LevelData {
			continue
		}
		p, ok := k.piece(c, arg1)
		if !ok {
			return nil, false
		}
		if p.Most > 0 {
			pieces = append(pieces, p)
		}
	}
	return pieces, true
}

// piece is what a capture reads.
func (k *Collector) piece(c *capture, arg1 uint64) (Piece, bool) {
	p := Piece{Arg: c.Arg, N: c.N, Unit: uint8(max(c.Unit, 1)), Most: k.most(c)}
	if c.Unit > 255 || c.Off != 0 || c.More != 0 {
		return p, false
	}
	in := c.At == atEnter
	switch c.What {
	case readCString:
		p.Kind, p.Most = PieceString, MaxPath
		return p, in
	case readBytes:
		p.Kind, p.Most = PieceInFixed, uint32(c.Len) // a structure, which is kept whole
	case readIoctlSize:
		n, out := ioctlSizes(uint32(arg1))
		if !in {
			n = out
		}
		if uint32(arg1) == siocGifConf {
			return p, false
		}
		p.Kind, p.Most = PieceInFixed, min(p.Most, uint32(n))
	case readLenArg:
		p.Kind = PieceInLen
		if c.Len != 0 {
			p.Most = min(p.Most, uint32(c.Len))
		}
	case readLenRet:
		p.Kind = PieceOutRet
		return p, !in && c.Len == 0 && (c.N == 0 || p.Unit == 1)
	case readLenPtr:
		p.Kind = PieceOutPtr
		return p, !in
	default:
		return p, false
	}
	switch {
	case in:
	case p.Kind == PieceInFixed:
		p.Kind = PieceOutFixed
	default:
		p.Kind = PieceOutLen
	}
	return p, true
}

// most is how many bytes of a capture are kept.
func (k *Collector) most(c *capture) uint32 {
	switch {
	case c.Level != LevelData:
		return maxStruct
	case c.At == atExit:
		return uint32(allowed(k.MaxData))
	case c.What == readLenArg && c.Unit == 0:
		return uint32(allowed(k.MaxString))
	}
	return maxArrayIn
}
