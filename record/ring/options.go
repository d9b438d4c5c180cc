//go:build linux

// This file says what a ring keeps.

package ring

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"memtrace/format"
)

// Options say what a ring keeps.
type Options struct {
	Size int64         // bytes of log to keep at least, 0 for no bound of its own
	Age  time.Duration // time to keep at least, 0 likewise. The less of both counts
	Dir  string        // folder of the segments, "" for memory
	// Keep are the conditions: a list, see DefaultConds.
	Keep string
	Max  int           // how often the ring is kept at most
	Gap  time.Duration // and how far apart; the end of the program is kept at any time
	// Output is the name of what is kept; %n is its number, %p the pid of the program.
	Output string
	// Memory says that memory is saved when the ring is kept.
	Memory bool
	// Every, if it is not 0, says that memory is saved all the time, and how often. What it was
	// before the ring begins is known too, up to Room bytes of pages.
	Every time.Duration
	Room  int64
	// Facts are those of a process that lives.
	Facts format.Facts
	// Say is told what a person should know. It may be called from any goroutine.
	Say func(text string)
}

// Bounds of what a ring is made of.
const (
	parts      = 8                     // a ring is divided into so many segments, and one more
	MinSize    = 64 << 10              // of a ring
	MinAge     = time.Second           // of a ring
	MemorySize = 256 << 20             // of a ring in memory, without a Size
	MemoryRoom = 256 << 20             // of memory from before the ring, without a Room
	earlyMost  = parts                 // segments whose memory waits to be taken over
	patience   = 10 * time.Second      // for the end of a process that a signal ends
	shortest   = 20 * time.Millisecond // of a segment
)

// Lines are the options as the header of a log has them.
func (o *Options) Lines() []string {
	size := []string{}
	if o.Size > 0 {
		size = append(size, fmt.Sprint(o.Size))
	}
	if o.Age > 0 {
		size = append(size, o.Age.String())
	}
	memory := "none"
	switch {
	case o.Every > 0:
		memory = "interval=" + o.Every.String()
	case o.Memory:
		memory = "at-keep"
	}
	return []string{"ring=" + strings.Join(size, ","), "keep-on=" + strings.Join(strings.Fields(o.Keep), ""), "keep-memory=" + memory}
}

// Check says what is wrong with options that a user has typed.
func (o *Options) Check() error {
	switch {
	case o.Size > 0 && o.Size < MinSize:
		return fmt.Errorf("--ring: at least %dK", MinSize>>10)
	case o.Age > 0 && o.Age < MinAge:
		return fmt.Errorf("--ring: at least %v", MinAge)
	case o.Max < 1:
		return errors.New("--keep-max: at least 1")
	case o.Gap < 0:
		return errors.New("--keep-gap: not below 0")
	}
	_, err := parseConds(o.Keep)
	if err != nil {
		err = fmt.Errorf("--keep-on %w", err)
	}
	return err
}
