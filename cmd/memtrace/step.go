//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"memtrace/analyze/console"
	"memtrace/format"
	"memtrace/record"
)

// stepFlags are those of the live console.
type stepFlags struct {
	step   bool
	script string
}

func (f *stepFlags) used() bool { return f.step || f.script != "" }

// console has a recording pause for a console. done gives the terminal back and says
// whether the user has killed the program.
func (f *stepFlags) console(j *record.Job, start time.Time) (done func() (quit bool), err error) {
	if !f.used() {
		return func() bool { return false }, nil
	}
	o := &j.Options
	var script, in io.Reader
	closeScript := func() {}
	if f.script != "" {
		file, err := os.Open(f.script)
		if err != nil {
			return nil, err
		}
		script, closeScript = file, func() { file.Close() }
	}
	if f.step {
		in = os.Stdin
		// Commands on a pipe are not for the program.
		if j.Program != nil {
			j.Program.NoStdin = !console.Terminal()
		}
	}
	live := console.NewLive(start, script, in, screen(os.Stdout), screen(os.Stderr))
	live.Foreground = record.TakeTerminal
	observe := o.Observe
	o.Observe = func(e *format.Event) {
		if observe != nil {
			observe(e)
		}
		live.See(e)
	}
	o.Pause = func(p *record.Pause) {
		at := console.Stop{Program: p, TID: uint32(p.TID)}
		switch p.When {
		case record.Before:
			at.Before = p.Call
		case record.Asked:
			at.Asked = true
		}
		p.Keep = live.Pause(at)
	}
	j.Interrupt = func(r *record.Recorder) bool {
		if live.Silent() {
			return false
		}
		if live.Waiting() {
			return true
		}
		// The program got the Ctrl-C too, and has stopped by it, if it is in the
		// foreground as we are.
		time.AfterFunc(100*time.Millisecond, func() {
			if !live.Waiting() {
				live.Interrupt()
				_ = r.Interrupt()
			}
		})
		return true
	}
	return func() bool { live.Close(); closeScript(); return live.Killed() }, nil
}

// goesWith says what does not go together.
func (f *stepFlags) goesWith(output string) error {
	if f.step && output == "-" {
		return fmt.Errorf("record --step -o -: the console needs standard output")
	}
	return nil
}
