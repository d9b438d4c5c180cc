package export

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"memtrace/analyze"
	"memtrace/replay"
)

// Values are what a stack can be weighed by.
var Values = []string{"live", "committed", "mapped", "calls"}

// weight is a value of a use.
func weight(u *analyze.StackUse, value string) (int64, error) {
	switch value {
	case "", "live":
		return u.Live, nil
	case "committed":
		return u.Committed, nil
	case "mapped":
		return u.Mapped, nil
	case "calls":
		return int64(u.Calls), nil
	}
	return 0, fmt.Errorf("no value %q: want %s", value, strings.Join(Values, ", "))
}

// foldedName is a function as a line of folded stacks has it.
var foldedName = strings.NewReplacer(";", ":", "\n", " ")

// folded writes a line for each stack, as flamegraph.pl and speedscope read them: the
// functions from the outermost to the innermost, with ";" between them, and a number.
func folded(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	if _, err := weight(&analyze.StackUse{}, o.Value); err != nil {
		return nil, err
	}
	list, err := uses(ctx, t, o)
	if err != nil {
		return nil, err
	}
	sums := map[string]int64{}
	for i := range list {
		u := &list[i]
		n, err := weight(u, o.Value)
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			continue
		}
		line := u.Who
		if u.Node != 0 {
			s, err := t.Stack(u.Node, true)
			if err != nil {
				return nil, err
			}
			line = foldedLine(s)
		}
		sums[line] += n
	}
	out := bufio.NewWriter(w)
	for _, line := range slices.Sorted(maps.Keys(sums)) {
		if _, err := fmt.Fprintf(out, "%s %d\n", line, sums[line]); err != nil {
			return nil, err
		}
	}
	var notes []string
	if len(sums) == 0 {
		notes = []string{fmt.Sprintf("no stack has anything of %q: --value chooses %s", cmp.Or(o.Value, Values[0]), strings.Join(Values, ", "))}
	}
	return notes, out.Flush()
}

func foldedLine(s *replay.NamedStack) string {
	var names []string
	for i := range s.Frames {
		for _, p := range places(&s.Frames[i]) {
			names = append(names, replay.Escape(foldedName.Replace(p.function)))
		}
	}
	if cut := cutFrame(s); cut != "" {
		names = append(names, cut)
	}
	slices.Reverse(names)
	return strings.Join(names, ";")
}
