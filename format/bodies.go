package format

import "memtrace/format/addr"

// appendBody encodes a record that is no system call. Fields are only ever
// added at the end; readers take missing ones for zero.
func appendBody(b []byte, r Record) []byte {
	switch r := r.(type) {
	case *Signal:
		b = appendZZ(b, int64(r.Signo))
		b = appendBool(b, r.Fatal)
		b = appendStr(b, r.Info)
	case *Exec:
		b = appendStr(b, r.Path)
		b = appendU(b, uint64(r.OldTID))
		b = appendU(b, uint64(len(r.Argv)))
		for _, s := range r.Argv {
			b = appendStr(b, s)
		}
		b = appendStr(b, r.Auxv)
		b = appendFDs(b, r.FDs)
	case *Clone:
		b = appendU(b, uint64(r.Child))
		b = appendU(b, r.Flags)
		b = appendU(b, r.Stack)
	case *Exit:
		b = appendU(b, uint64(r.Status))
		b = appendBool(b, r.Process)
	case *Stop:
		b = append(b, byte(r.What))
		b = appendZZ(b, int64(r.Signo))
	case *Snapshot:
		b = appendU(b, uint64(r.MM))
		b = appendStr(b, r.Reason)
		b = append(b, byte(r.Mechanism))
		b = appendBool(b, r.Full)
		b = appendU(b, r.Pages)
		b = appendU(b, r.PauseNS)
	case *MemInfo:
		b = appendU(b, uint64(len(r.Samples)))
		for _, s := range r.Samples {
			b = appendStr(b, s.Source)
			b = appendU(b, uint64(s.PID))
			b = appendStr(b, s.Data)
		}
	case *Attach:
		b = appendU(b, uint64(r.PID))
		b = appendStr(b, r.Auxv)
		b = appendStr(b, r.Path)
		b = appendU(b, uint64(len(r.Argv)))
		for _, s := range r.Argv {
			b = appendStr(b, s)
		}
		b = appendFDs(b, r.FDs)
	case *Detach:
		b = appendStr(b, r.Reason)
	case *Lost:
		b = appendStr(b, r.What)
	case *Check:
		b = appendU(b, uint64(r.MM))
		b = appendBool(b, r.OK)
		b = appendStr(b, r.Diff)
		b = appendStr(b, r.Maps)
		b = appendU(b, uint64(r.Sum))
	case *Poke:
		b = appendU(b, uint64(r.MM))
		b = appendU(b, uint64(r.Addr))
		b = appendStr(b, r.Old)
		b = appendStr(b, r.New)
	case *Unknown:
		b = append(b, r.Data...)
	}
	return b
}

// body decodes what appendBody wrote; byte slices point into b.
func body(code uint32, b []byte) (Record, error) {
	c := cursor{b: b}
	var r Record
	switch Kind(min(code, uint32(NumKinds))) {
	case KindSignal:
		r = &Signal{Signo: int32(c.zz()), Fatal: c.u8() != 0, Info: c.blob()}
	case KindExec:
		e := &Exec{Path: c.str(), OldTID: c.u32()}
		for n := c.count(1); n > 0 && !c.bad; n-- {
			e.Argv = append(e.Argv, c.str())
		}
		if c.more() {
			e.Auxv = c.blob()
		}
		e.FDs = c.fds()
		r = e
	case KindClone:
		r = &Clone{Child: c.u32(), Flags: c.u(), Stack: c.u()}
	case KindExit:
		r = &Exit{Status: c.u32(), Process: c.u8() != 0}
	case KindStop:
		r = &Stop{What: StopKind(c.u8()), Signo: int32(c.zz())}
	case KindSnapshot:
		r = &Snapshot{MM: c.u32(), Reason: c.str(), Mechanism: Dirty(c.u8()), Full: c.u8() != 0, Pages: c.u(), PauseNS: c.u()}
	case KindMemInfo:
		m := new(MemInfo)
		for n := c.count(3); n > 0 && !c.bad; n-- {
			m.Samples = append(m.Samples, Sample{Source: c.str(), PID: c.u32(), Data: c.blob()})
		}
		r = m
	case KindAttach:
		a := &Attach{PID: c.u32()}
		if c.more() {
			a.Auxv, a.Path = c.blob(), c.str()
			for n := c.count(1); n > 0 && !c.bad; n-- {
				a.Argv = append(a.Argv, c.str())
			}
		}
		a.FDs = c.fds()
		r = a
	case KindDetach:
		r = &Detach{Reason: c.str()}
	case KindLost:
		r = &Lost{What: c.str()}
	case KindCheck:
		k := &Check{MM: c.u32(), OK: c.u8() != 0, Diff: c.str(), Maps: c.blob()}
		if c.more() {
			k.Sum = c.u32()
		}
		r = k
	case KindPoke:
		r = &Poke{MM: c.u32(), Addr: addr.Addr(c.u()), Old: c.blob(), New: c.blob()}
	default:
		return &Unknown{Code: code, Data: b}, nil
	}
	if c.bad {
		return nil, corrupt("body of an event of kind %d", code)
	}
	return r, nil
}

func appendFDs(b []byte, fds []FD) []byte {
	b = appendU(b, uint64(len(fds)))
	for _, f := range fds {
		b = appendZZ(b, int64(f.Num))
		b = appendBool(b, f.CloExec)
		b = appendStr(b, f.Name)
	}
	return b
}

// fds reads what appendFDs wrote, if there is any.
func (c *cursor) fds() (fds []FD) {
	if !c.more() {
		return nil
	}
	for n := c.count(3); n > 0 && !c.bad; n-- {
		fds = append(fds, FD{Num: int32(c.zz()), CloExec: c.u8() != 0, Name: c.str()})
	}
	return fds
}
