//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"memtrace/record"
	"memtrace/record/ring"
)

// ringFlags are those of record --ring.
type ringFlags struct {
	ring   string
	on     string
	memory string
	max    int
	gap    time.Duration
	folder string
	room   string
}

func (f *ringFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.ring, "ring", "", "keep only the last `SIZE|TIME` of the log (64M, 30s, or both with a comma: the less counts)")
	fs.StringVar(&f.on, "keep-on", ring.DefaultConds, "what is kept is written to the log when one of these comes true: `COND`,... of signal[=NAME], exit, exit!=0, rss>SIZE, rss+SIZE/min, slow=CALL>TIME, errno=NAME, mark=NAME, sigusr2")
	fs.StringVar(&f.memory, "keep-memory", "at-keep", "save the contents of memory `WHEN`: at-keep, interval=TIME (also of before), none")
	fs.StringVar(&f.room, "ring-memory", "256M", "with --keep-memory interval: keep at most `SIZE` of memory from before the ring begins")
	fs.IntVar(&f.max, "keep-max", 5, "keep the ring at most `N` times")
	fs.DurationVar(&f.gap, "keep-gap", time.Minute, "at least this `TIME` apart; the end of the program is kept whatever was kept before")
	fs.StringVar(&f.folder, "ring-dir", "", "where the parts of the ring are, a folder `DIR`; without it memory, up to 256M")
}

// check says whether flags are given that mean nothing without --ring.
func (f *ringFlags) check(given *pflag.FlagSet) (err error) {
	var own pflag.FlagSet
	new(ringFlags).add(&own)
	own.VisitAll(func(x *pflag.Flag) {
		if f.ring == "" && given.Changed(x.Name) {
			err = usagef("--%s goes with --ring", x.Name)
		}
	})
	return err
}

// options are what the flags ask for, nil without --ring.
func (f *ringFlags) options(output string, o *record.Options) (*ring.Options, error) {
	if f.ring == "" {
		return nil, nil
	}
	r := &ring.Options{Keep: f.on, Max: f.max, Gap: f.gap, Dir: f.folder, Output: output, Memory: f.memory != "none"}
	for word := range strings.SplitSeq(f.ring, ",") {
		d, derr := time.ParseDuration(word)
		n, nerr := parseSize(word)
		switch {
		case derr == nil && d > 0:
			r.Age = d
		case nerr == nil && n > 0:
			r.Size = n
		default:
			return nil, fmt.Errorf("record --ring: %q is neither a size such as 64M nor a time such as 30s", word)
		}
	}
	if every, ok := strings.CutPrefix(f.memory, "interval="); ok {
		d, err := time.ParseDuration(every)
		if err != nil || d < time.Millisecond {
			return nil, fmt.Errorf("record --keep-memory: %q is no time such as 1s", every)
		}
		r.Every = d
	} else if f.memory != "at-keep" && f.memory != "none" {
		return nil, fmt.Errorf("record --keep-memory: %q is not at-keep, interval=TIME or none", f.memory)
	}
	var err error
	if r.Room, err = parseSize(f.room); err != nil || r.Room < 1<<20 {
		return nil, fmt.Errorf("record --ring-memory: %q is not a size of at least 1M", f.room)
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("record %w", err)
	}
	switch {
	case output == "-":
		return nil, errors.New("record --ring: name a file with -o: what is kept is not written to standard output")
	case o.PageTrace.Engine != 0:
		return nil, errors.New("record --ring does not go with --page-trace")
	case o.MaxBytes > 0:
		return nil, errors.New("record --ring does not go with --max-size: the ring has a size of its own")
	}
	if r.Dir != "" {
		if st, err := os.Stat(r.Dir); err != nil || !st.IsDir() {
			return nil, fmt.Errorf("record --ring-dir %s: not a folder", r.Dir)
		}
	} else if r.Size > ring.MemorySize {
		r.Dir = filepath.Dir(output)
	}
	o.Snapshot = record.Policy{Keep: r.Memory, Interval: r.Every}
	return r, nil
}

// reportKept says what a ring has come to.
func (f *recordFlags) reportKept(out *record.Outcome) {
	n := 0
	for _, d := range out.Kept {
		if d.Err == nil {
			n++
			fmt.Fprintf(screen(os.Stderr), "memtrace: %s, %s in %s (memtrace report %s)\n", count(uint64(d.Info.Steps-d.Info.First), "event"), size(d.Info.Size), d.Name, d.Name)
		}
	}
	switch {
	case n == 0 && len(out.Kept) > 0:
		fmt.Fprintf(screen(os.Stderr), "memtrace: %s went through the ring, none could be kept\n", count(out.Events, "event"))
	case n == 0:
		fmt.Fprintf(screen(os.Stderr), "memtrace: %s went through the ring, none was kept: nothing of %s came true\n", count(out.Events, "event"), f.on)
	}
}
