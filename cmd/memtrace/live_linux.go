package main

import (
	"context"
	"time"

	"memtrace/analyze/export"
	"memtrace/record"
	"memtrace/replay"
)

// withLive calls f with a living process while all its threads stand still.
func withLive(ctx context.Context, pid int, f func(s *export.Subject, restless int) error) (time.Duration, error) {
	return record.Hold(ctx, pid, func(h *record.Held) error {
		v := &replay.View{State: h.State, Pages: h, Files: h, Start: time.Now(), Symbols: &replay.Symbols{Start: time.Now()}}
		p, err := v.ByNo(1)
		if err != nil {
			return err
		}
		s := &export.Subject{
			View: v, Process: p, PPID: h.PPID, UID: h.UID, GID: h.GID,
			Origin: replay.Origin{Path: h.Path, Argv: h.Argv, Auxv: h.Auxv},
		}
		for _, t := range p.Threads {
			s.Registers = append(s.Registers, replay.Registers{Thread: t, Values: h.Regs[t.No], XState: h.XStates[t.No]})
		}
		return f(s, len(h.Restless))
	})
}
