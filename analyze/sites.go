package analyze

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/replay"
)

// NoStacks is what is said of a log without the stacks of calls, "" of one that has them.
func NoStacks(t *replay.Trace) string {
	switch {
	case t.HasCallStacks():
		return ""
	case t.HasStacks():
		return "The log has call stacks of what ended a process only: record with -k to have those of calls."
	}
	return "The log has no call stacks: record with -k to have them."
}

// bareSite is the site of calls without a stack in the log.
const bareSite = "(no stack)"

// SiteBys are the ways to tell call sites apart.
var SiteBys = []string{"line", "function", "module", "address", "stack"}

// SiteWhats are the kinds of memory that call sites can be ranked by; the first is the default.
var SiteWhats = []string{"committed", "mapped", "resident"}

// siteWhat makes o.What one of SiteWhats.
func (o *Options) siteWhat() error {
	o.What = cmp.Or(o.What, SiteWhats[0])
	if !slices.Contains(SiteWhats, o.What) {
		return replay.WordError{E: fmt.Errorf("no call sites by %q memory: want committed, mapped or resident", o.What)}
	}
	if o.Stacks < 0 {
		return fmt.Errorf("stacks of each call site: %d is not a number of stacks", o.Stacks)
	}
	return nil
}

// siteBy makes o.By one of SiteBys.
func (o *Options) siteBy() error {
	if o.By == "" || o.By == "site" {
		o.By = SiteBys[0]
	}
	if !slices.Contains(SiteBys, o.By) {
		return replay.WordError{E: fmt.Errorf("no call sites by %q: want line, function, module, address or stack", o.By)}
	}
	return nil
}

// site is a call site: the innermost place of a stack that is not an allocator's.
type site struct {
	name string // "parse_row (app.c:41)"
	via  string // the allocator's function that it called, "" if none was skipped
	// caller is what called it, "" if that is not known, or if several did.
	caller string
	node   format.StackNode
}

// siteNamer finds the call sites of stacks.
type siteNamer struct {
	t    *replay.Trace
	by   string
	skip *skipper
	libc bool // libc is skipped as a whole: sites are of calls, not of memory
	of   map[format.StackNode]*site
	same map[string]*site
}

func newSiteNamer(t *replay.Trace, o Options) *siteNamer {
	return &siteNamer{t: t, by: cmp.Or(o.By, SiteBys[0]), skip: newSkipper(o.Skip), of: map[format.StackNode]*site{}, same: map[string]*site{}}
}

// step is one function of a stack, an inlined one too.
type step struct {
	function, file string // short, "" if not known
	line           int
	frame          *replay.NamedFrame
}

// steps takes a stack apart, the innermost function first.
func steps(s *replay.NamedStack) []step {
	var list []step
	for i := range s.Frames {
		f := &s.Frames[i]
		for _, p := range f.Places {
			list = append(list, step{p.Short, p.File, p.Line, f})
		}
		if len(f.Places) == 0 {
			list = append(list, step{f.Short, "", 0, f})
		}
	}
	return list
}

// find is the call site of a stack. Stacks of one site have the same *site.
func (n *siteNamer) find(node format.StackNode) (*site, error) {
	if s := n.of[node]; s != nil {
		return s, nil
	}
	stack, err := n.t.Stack(node, true)
	if err != nil {
		return nil, err
	}
	all := steps(stack)
	at := n.innermost(all)
	x := site{node: node}
	if at == len(all) { // no frame is known
		x.name = "(no frame)"
	} else {
		x.name = n.name(all, at)
		if at > 0 && n.by != "stack" {
			x.via = all[at-1].function
		}
	}
	key := x.name
	if n.by == "address" {
		key = fmt.Sprint(x.name, "\x00", x.via)
	}
	x.caller = callerOf(all, at)
	same := n.same[key]
	switch {
	case same == nil:
		same = &x
		n.same[key] = same
	case same.caller != x.caller:
		same.caller = ""
	}
	n.of[node] = same
	return same, nil
}

// callerOf is what called a function of a stack, "" if that is not known or begins a thread.
func callerOf(all []step, at int) string {
	if at+1 >= len(all) {
		return ""
	}
	if by := &all[at+1]; by.file != "" && by.function != all[at].function && !slices.Contains(beginnings, by.function) {
		return by.String()
	}
	return ""
}

// innermost is which of the functions is the site. Functions of libc without a name are
// an allocator's if they were called by one.
func (n *siteNamer) innermost(all []step) int {
	at, i := 0, 0
	for ; i < len(all); i++ {
		s := &all[i]
		skip, unsure := n.skip.frame(s.frame.FrameName)
		if s.function != s.frame.Short {
			skip, unsure = n.skip.function(s.function), false
		}
		if n.libc && inLibc(s.frame.Path) {
			skip = true
		}
		switch {
		case skip:
			at = i + 1
		case !unsure:
			return at
		}
	}
	if at < len(all) || len(all) == 0 {
		return at
	}
	// All of it is an allocator's, as in the runtime of Go: the outermost that does more
	// than begin a thread.
	i = len(all) - 1
	for i > 0 && slices.Contains(beginnings, all[i].function) {
		i--
	}
	return i
}

// beginnings are functions in which threads begin.
var beginnings = []string{
	"_start", "__libc_start_main", "__libc_start_call_main", "start_thread", "clone", "clone3", "__clone", "__clone3", "runtime.goexit", "runtime.mstart",
	"runtime.mstart0", "runtime.mstart1", "runtime.rt0_go", "_rt0_amd64_linux", "runtime.systemstack", "runtime.mcall", "runtime.main",
}

// name is what a site is called.
func (n *siteNamer) name(all []step, at int) string {
	s := &all[at]
	switch n.by {
	case "module":
		return s.frame.FrameName.Module(&s.frame.Frame)
	case "address":
		return fmt.Sprintf("%s+%#x", s.frame.FrameName.Module(&s.frame.Frame), s.frame.Frame.Offset)
	case "function":
		return s.called()
	case "stack":
		var names []string
		for i := at; i < len(all) && len(names) < 64; i++ {
			names = append(names, all[i].called())
		}
		return strings.Join(names, " < ")
	}
	return s.String()
}

// called is the function of a step, or where it is if its name is not known.
func (s *step) called() string {
	if s.function != "" {
		return s.function
	}
	module := s.frame.FrameName.Module(&s.frame.Frame)
	return fmt.Sprintf("%s+%#x", path.Base(module), s.frame.Frame.Offset)
}

// String is a step as people read it: "parse_row (app.c:41)"; without a line
// "parse_row (libapp.so)".
func (s *step) String() string {
	switch {
	case s.function == "":
		return s.called()
	case s.file != "":
		return fmt.Sprintf("%s (%s:%d)", s.function, path.Base(s.file), s.line)
	}
	return fmt.Sprintf("%s (%s)", s.function, path.Base(s.frame.FrameName.Module(&s.frame.Frame)))
}

// crashSite says where a fatal signal came: the function and its line, and the
// function of libc or an allocator that worked for it, if it came in one.
func crashSite(t *replay.Trace, node format.StackNode) (string, error) {
	s, err := t.Stack(node, true)
	if err != nil {
		return "", err
	}
	all := steps(s)
	if len(all) == 0 {
		return "at an unknown place", nil
	}
	if at := crashNamer(t).innermost(all); at > 0 && at < len(all) {
		return fmt.Sprintf("in %s, by %s", all[at].String(), all[at-1].called()), nil
	}
	return "in " + all[0].String(), nil
}

// CallSite is the function of a stack with names that asked for memory: the innermost that
// is no allocator's, as in the report callsites. It counts functions from the innermost on:
// those of Places of each frame, or one for a frame without. ok is false for a stack
// without frames.
func CallSite(s *replay.NamedStack) (function int, ok bool) {
	all := steps(s)
	n := siteNamer{skip: newSkipper(nil)}
	at := n.innermost(all)
	return at, at < len(all)
}
