package export

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"memtrace/format"
	"memtrace/replay"
)

// noRefs is what there is to say of references that are not there.
func noRefs(t *replay.Trace) error {
	if t.HasRefs() {
		return nil
	}
	return fmt.Errorf("%s", replay.NoRefs)
}

// eachRef writes what line appends for each reference.
func eachRef(ctx context.Context, t *replay.Trace, w io.Writer, o Options, head string, line func([]byte, *replay.RefMoment) []byte) ([]string, error) {
	if err := noRefs(t); err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	if _, err := out.WriteString(head); err != nil {
		return nil, err
	}
	incomplete := 0
	var b []byte
	for m, err := range t.Refs(ctx, o.From, o.To) {
		if err != nil {
			return nil, err
		}
		if o.PID != 0 && m.PID != o.PID {
			continue
		}
		if m.Phase != nil {
			if m.Phase.Incomplete {
				incomplete++
			}
			continue
		}
		b = line(b[:0], m)
		if _, err := out.Write(b); err != nil {
			return nil, err
		}
	}
	var notes []string
	if incomplete > 0 {
		notes = append(notes, fmt.Sprintf("%d phases are incomplete: references are missing", incomplete))
	}
	return notes, out.Flush()
}

func refsCSV(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	return eachRef(ctx, t, w, o, "phase,step,tid,page,kind,ip,time\n", func(b []byte, m *replay.RefMoment) []byte {
		b = append(strconv.AppendUint(b, m.PhaseNo, 10), ',')
		b = append(strconv.AppendUint(b, uint64(m.Step), 10), ',')
		b = append(strconv.AppendUint(b, uint64(m.Thread.TID), 10), ",0x"...)
		b = append(strconv.AppendUint(b, uint64(m.Page), 16), ',')
		b = append(append(b, m.Kind.String()...), ",0x"...)
		b = append(strconv.AppendUint(b, uint64(m.IP), 16), ',')
		return append(strconv.AppendUint(b, m.Time, 10), '\n')
	})
}

// din has 0 also for references of which it is not known what they were, and for those
// by calls.
func din(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	return eachRef(ctx, t, w, o, "", func(b []byte, m *replay.RefMoment) []byte {
		label := byte('0')
		switch m.Kind {
		case format.RefWrite:
			label = '1'
		case format.RefFetch:
			label = '2'
		}
		return append(strconv.AppendUint(append(b, label, ' '), uint64(m.Page), 16), '\n')
	})
}

func lackey(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	return eachRef(ctx, t, w, o, "", func(b []byte, m *replay.RefMoment) []byte {
		switch m.Kind {
		case format.RefWrite:
			b = append(b, " S "...)
		case format.RefFetch:
			b = append(b, "I  "...)
		default:
			b = append(b, " L "...)
		}
		return append(strconv.AppendUint(b, uint64(m.Page), 16), ",4\n"...)
	})
}

// pageOf identifies a page.
type pageOf struct {
	mm   uint32
	page uint64
}

// numbered calls f with each reference and the number of its page: 0, 1 ... in the
// order of their first reference.
func numbered(ctx context.Context, t *replay.Trace, o Options, f func(id int, m *replay.RefMoment) error) error {
	ids := map[pageOf]int{}
	for m, err := range t.Refs(ctx, o.From, o.To) {
		if err != nil {
			return err
		}
		if m.Phase != nil || o.PID != 0 && m.PID != o.PID {
			continue
		}
		k := pageOf{m.MM, uint64(m.Page)}
		id, known := ids[k]
		if !known {
			id = len(ids)
			ids[k] = id
		}
		if err := f(id, m); err != nil {
			return err
		}
	}
	return nil
}

// mostOracle is how many references oracleGeneral takes, in 4 bytes of memory each.
const mostOracle = 1<<32 - 2

// oracleGeneral writes 24 bytes a reference: u32 second, u64 page from 1, u32 size 1, i64
// number of the next reference to the page (from 1), -1 for none. Each page is one
// object of one byte, so that sizes of caches are pages.
func oracleGeneral(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	if err := noRefs(t); err != nil {
		return nil, err
	}
	var next []uint32 // by reference: number of the next, 0 for none
	var last []uint32 // by page
	err := numbered(ctx, t, o, func(id int, _ *replay.RefMoment) error {
		if uint64(len(next)) >= mostOracle {
			return fmt.Errorf("more than %d references", uint64(mostOracle))
		}
		next = append(next, 0)
		if id == len(last) {
			last = append(last, 0)
		} else {
			next[last[id]] = uint32(len(next))
		}
		last[id] = uint32(len(next)) - 1
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	i := 0
	var b []byte
	le := binary.LittleEndian
	err = numbered(ctx, t, o, func(id int, m *replay.RefMoment) error {
		b = le.AppendUint32(b[:0], uint32(m.Time/1e9))
		b = le.AppendUint64(b, uint64(id)+1)
		b = le.AppendUint32(b, 1)
		at := int64(next[i])
		if at == 0 {
			at = -1
		}
		i++
		_, err := out.Write(le.AppendUint64(b, uint64(at)))
		return err
	})
	return nil, cmp.Or(err, out.Flush())
}
