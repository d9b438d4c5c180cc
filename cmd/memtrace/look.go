package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// runLook shows a process at a step.
func runLook(cmd *cobra.Command, t *replay.Trace, name string, o *replayOptions) error {
	if o.at == "" {
		o.at = "last"
	}
	p, n, err := processAt(cmd, t, o)
	if err != nil {
		return replaying(name, err)
	}
	out := cmd.OutOrStdout()
	if o.maps {
		if err := p.WriteMaps(out, o.json); err != nil {
			return replaying(name, err)
		}
	}
	if o.regs {
		if err := writeRegisters(out, t, p, n, o.json); err != nil {
			return replaying(name, err)
		}
	}
	if o.stack {
		if err := writeStacks(cmd, t, p, o); err != nil {
			return replaying(name, err)
		}
	}
	if o.mem == "" {
		return nil
	}
	return writeMemory(cmd, t, name, p, n, o)
}

// processAt is the process to look at, and the step.
func processAt(cmd *cobra.Command, t *replay.Trace, o *replayOptions) (*replay.Process, format.Step, error) {
	n, err := t.StepOf(o.at)
	if err != nil {
		return nil, 0, err
	}
	v, err := t.At(n)
	if err != nil {
		return nil, 0, err
	}
	p, err := t.Find(cmd.Context(), v, o.pid)
	if err != nil && o.at == "last" {
		// The last of its memory: with its end a process has none.
		if alive, aerr := t.LastAlive(cmd.Context(), o.pid); aerr == nil && alive < n {
			n = alive
			if v, err = t.At(n); err == nil {
				p, err = t.Find(cmd.Context(), v, o.pid)
			}
			if err == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: process %d has ended: this is step %d, the last with its memory\n", p.PID, n)
			}
		}
	}
	return p, n, err
}

// writeRegisters shows the registers of the threads of a process.
func writeRegisters(out io.Writer, t *replay.Trace, p *replay.Process, n format.Step, json bool) error {
	regs, err := t.Registers(n, p.Threads)
	if err != nil {
		return err
	}
	for i := range regs {
		if json {
			_, err = out.Write(append(regs[i].AppendJSON(nil), '\n'))
		} else {
			err = regs[i].Write(out, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeMemory shows the bytes of --mem.
func writeMemory(cmd *cobra.Command, t *replay.Trace, name string, p *replay.Process, n format.Step, o *replayOptions) error {
	out := cmd.OutOrStdout()
	s, err := p.Space()
	if err != nil {
		return replaying(name, err)
	}
	if err := t.NameRegistersOf(s, p, n); err != nil {
		return replaying(name, err)
	}
	r, err := replay.ParseRange(o.mem, s)
	if errors.Is(err, replay.ErrUnknown) {
		return fmt.Errorf("--mem: %w", err)
	}
	if err != nil {
		return usageError{fmt.Errorf("--mem: %w", err)}
	}
	if o.json {
		return writePieces(out, t, name, s, r, n)
	}
	older, err := s.WriteMem(out, r, o.raw)
	for i, c := range older {
		if i == 8 {
			fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: and %d more ranges as of earlier steps\n", len(older)-i)
			break
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "memtrace: %s\n", c.Append(nil))
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", memName(r), err)
	}
	return nil
}

// writeStacks shows the stacks of the threads of a process.
func writeStacks(cmd *cobra.Command, t *replay.Trace, p *replay.Process, o *replayOptions) error {
	s, err := p.Space()
	if err != nil {
		return err
	}
	detail := replay.StackDetail(min(max(o.stacks, 1), 2))
	stacks, err := t.Stacks(cmd.Context(), s, p.Threads, detail >= replay.StackLines)
	if err != nil {
		return err
	}
	known := false
	for i := range stacks {
		line := stacks[i].Append
		if o.json {
			line = stacks[i].AppendJSON
		}
		if _, err := cmd.OutOrStdout().Write(append(line(nil, detail), '\n')); err != nil {
			return err
		}
		known = known || stacks[i].Stack != nil
	}
	if !known && len(stacks) > 0 {
		return fmt.Errorf("stack: %w", replay.ErrUnknown)
	}
	return nil
}

// writePieces tells of memory what is known, since when, and what is not.
func writePieces(out io.Writer, t *replay.Trace, name string, s *replay.AddressSpace, r addr.Range, n format.Step) error {
	pieces, err := t.Provenance(s, r)
	if err != nil {
		return replaying(name, err)
	}
	for i := range pieces {
		if _, err := out.Write(append(pieces[i].AppendJSON(nil, n), '\n')); err != nil {
			return err
		}
	}
	for i := range pieces {
		if pieces[i].Err != nil {
			return fmt.Errorf("read %s: %w", memName(r), pieces[i].Err)
		}
	}
	return nil
}

func memName(r addr.Range) string { return fmt.Sprintf("%v:%d", r.Start, r.Len()) }
