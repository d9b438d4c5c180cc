package export

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// uses are what calls with stacks did.
func uses(ctx context.Context, t *replay.Trace, o Options) ([]analyze.StackUse, error) {
	if no := analyze.NoStacks(t); no != "" {
		return nil, errors.New(strings.TrimSuffix(strings.ToLower(no[:1])+no[1:], "."))
	}
	return analyze.StackUses(ctx, t, analyze.Options{From: o.From, To: o.To, PID: o.PID}, nil)
}

// place is one function of a stack, as exports have them.
type place struct {
	function string // short
	full     string // with parameters
	file     string
	line     int
}

// places are the functions of a frame, those inlined first. A function without a name is
// where it is; one that was guessed begins with "?".
func places(f *replay.NamedFrame) []place {
	guess := ""
	if f.How.Guess() || f.Inexact {
		guess = "?"
	}
	nameless := func() string {
		return fmt.Sprintf("%s+%#x", f.FrameName.Module(&f.Frame), f.Frame.Offset)
	}
	var list []place
	for _, p := range f.Places {
		x := place{p.Short, p.Function, p.File, p.Line}
		if x.function == "" {
			x.function, x.full = nameless(), nameless()
		}
		list = append(list, place{guess + x.function, guess + x.full, x.file, x.line})
	}
	if len(list) == 0 {
		x := place{function: f.Short, full: f.Function}
		if x.function == "" {
			x.function, x.full = nameless(), nameless()
		}
		list = append(list, place{function: guess + x.function, full: guess + x.full})
	}
	return list
}

// cutFrame stands at the outer end of a stack that is not whole; "" if it is.
func cutFrame(s *replay.NamedStack) string {
	if s.End == format.StackComplete {
		return ""
	}
	return "[" + s.EndText() + "]"
}
