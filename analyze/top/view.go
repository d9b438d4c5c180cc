package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"memtrace/analyze"
	"memtrace/replay"
)

// End is how a view was left.
type End uint8

// The ends.
const (
	Quit   End = iota // q
	Detach            // d
)

// Options say how a view looks.
type Options struct {
	Plain bool   // no colour, no reverse video (NO_COLOR)
	ASCII bool   // no characters beyond
	Title string // what is looked at
	// Ended, if not nil, is told when a living program has ended.
	Ended <-chan string
	// Gone, if not nil, reports whether nobody can see the view any more: its window was closed.
	Gone func() bool
}

// Run shows a source on the terminal until the user leaves.
func Run(src Source, o Options) (End, error) {
	m := newModel(src, o)
	p := tea.NewProgram(m)
	if o.Ended != nil {
		go func() {
			if why, ok := <-o.Ended; ok {
				p.Send(ended(why))
			}
		}()
	}
	out, err := p.Run()
	if last, ok := out.(*model); ok {
		return last.end, err
	}
	return Quit, err
}

type (
	tick  struct{}
	ended string
)

// refresh is how often a living program is looked at.
const refresh = 500 * time.Millisecond

// goneTicks is how many times later the view of a closed window is left: most programs end with
// their window.
const goneTicks = 4

// order is what a table is sorted by.
type order uint8

const (
	byGrowth order = iota
	bySize
	byName
	orders
)

func (o order) String() string { return [...]string{"growth", "size", "name"}[o] }

type model struct {
	src    Source
	o      Options
	frame  Frame
	err    error
	w, h   int
	in     uint32     // number of the process that is looked into; 0: the list
	bytes  *bytesView // of the mapping that is looked into; nil: none
	keys   bool       // the keys are shown
	row    int
	sort   order
	filter string
	typing bool // the filter
	done   string
	gone   int // how often the window was found closed
	end    End
}

func newModel(src Source, o Options) *model {
	m := &model{src: src, o: o, w: 80, h: 24}
	m.look()
	return m
}

func (m *model) look() { m.frame, m.err = m.src.Frame(m.in) }

func (m *model) Init() tea.Cmd { return m.wait() }

func (m *model) wait() tea.Cmd {
	if !m.src.Live() {
		return nil
	}
	return tea.Tick(refresh, func(time.Time) tea.Msg { return tick{} })
}

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.w, m.h = msg.Width, msg.Height
	case tick:
		if m.o.Gone != nil && m.o.Gone() {
			if m.gone++; m.done != "" || m.gone > goneTicks {
				m.end = Detach
				return m, tea.Quit
			}
		}
		if m.done == "" {
			m.look()
		}
		return m, m.wait()
	case ended:
		m.done = string(msg)
	case tea.KeyPressMsg:
		return m.key(msg)
	}
	return m, nil
}

func (m *model) key(k tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	if m.typing {
		switch k.String() {
		case "enter":
			m.typing = false
		case "esc", "ctrl+c":
			m.typing, m.filter = false, ""
		case "backspace":
			if n := len(m.filter); n > 0 {
				m.filter = m.filter[:n-1]
			}
		default:
			m.filter += k.Text
		}
		m.row = 0
		return m, nil
	}
	if m.keys { // any key goes back
		m.keys = false
		return m, nil
	}
	switch k.String() {
	case "q", "ctrl+c":
		m.end = Quit
		return m, tea.Quit
	case "d":
		if m.src.Live() {
			m.end = Detach
			return m, tea.Quit
		}
	case "?":
		m.keys = true
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup":
		m.move(-m.page())
	case "pgdown", "space":
		m.move(m.page())
	case "enter":
		m.enter()
	case "esc", "backspace":
		m.back()
	case "s":
		m.sort = (m.sort + 1) % orders
	case "/":
		if m.bytes == nil {
			m.typing, m.filter = true, ""
		}
	case "left":
		m.slide(-0.01)
	case "right":
		m.slide(0.01)
	case "[":
		m.slide(-1e-9)
	case "]":
		m.slide(1e-9)
	case "home":
		m.slide(-1)
	case "end":
		m.slide(1)
	}
	return m, nil
}

// page is how many rows a table has.
func (m *model) page() int { return max(m.h-m.eventRows()-6, 3) }

// eventRows is how many events are shown: a quarter of a large screen.
func (m *model) eventRows() int { return min(max(m.h/4, 6), keptLines) }

func (m *model) move(rows int) {
	if m.bytes != nil {
		m.bytes.move(rows)
		return
	}
	m.row += rows
}

// enter looks into what is chosen.
func (m *model) enter() {
	if p := m.process(); p != nil {
		if ms := m.maps(p); m.bytes == nil && m.row < len(ms) {
			m.bytes = newBytes(m.src, p.No, &ms[m.row])
		}
		return
	}
	if ps := m.procs(); m.in == 0 && m.row < len(ps) {
		m.in, m.row = ps[m.row].No, 0
		m.look()
	}
}

// back goes back to where one came from.
func (m *model) back() {
	switch {
	case m.bytes != nil:
		m.bytes = nil
		return
	case m.filter != "":
		m.filter = ""
	default:
		m.in = 0
	}
	m.row = 0
}

// process is the process that is looked into, nil for none.
func (m *model) process() *Proc {
	for i := range m.frame.Procs {
		if m.in != 0 && m.frame.Procs[i].No == m.in {
			return &m.frame.Procs[i]
		}
	}
	return nil
}

func (m *model) slide(part float64) {
	m.src.Slide(part)
	m.look()
}

// procs are the processes to show, in order.
func (m *model) procs() []Proc {
	var ps []Proc
	for _, p := range m.frame.Procs {
		if strings.Contains(p.Name, m.filter) || strings.Contains(fmt.Sprint(p.PID), m.filter) {
			ps = append(ps, p)
		}
	}
	slices.SortStableFunc(ps, func(a, b Proc) int {
		switch m.sort {
		case byName:
			return cmp.Compare(a.Name, b.Name)
		case bySize:
			return cmp.Compare(b.RSS, a.RSS)
		}
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.RSS, a.RSS))
	})
	return ps
}

func (m *model) maps(p *Proc) []Mapping {
	var ms []Mapping
	for _, x := range p.Maps {
		if strings.Contains(x.Name, m.filter) {
			ms = append(ms, x)
		}
	}
	slices.SortStableFunc(ms, func(a, b Mapping) int {
		switch m.sort {
		case byName:
			return cmp.Compare(a.Name, b.Name)
		case bySize:
			return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
		}
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Growth, a.Growth), cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	})
	return ms
}

func (m *model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}

// Colours of the terminal, as it has them.
const (
	bold    = "1"
	reverse = "7"
	red     = "31"
	green   = "32"
	yellow  = "33"
	blue    = "36"
	dim     = "2"
)

// screen is the view as a text.
func (m *model) screen() string {
	var b strings.Builder
	m.head(&b)
	if m.keys {
		m.table(&b, "KEYS (any key goes back)", keyRows, -1)
		m.bottom(&b)
		return b.String()
	}
	p := m.process()
	switch {
	case m.in != 0 && p == nil:
		m.table(&b, "this process has ended, or not begun: esc goes back", nil, -1)
	case m.bytes != nil:
		head, rows := m.bytes.rows(m.page())
		m.table(&b, head, rows, -1)
	default:
		head, rows := m.list()
		if p != nil {
			head, rows = m.mappings(p)
		}
		m.row = min(max(m.row, 0), max(len(rows)-1, 0))
		m.table(&b, head, rows, m.row)
	}
	m.bottom(&b)
	return b.String()
}

// table writes a heading and the rows around the chosen one, -1 for the first.
func (m *model) table(b *strings.Builder, head string, rows []string, chosen int) {
	room := m.page()
	first := max(0, chosen-room+1)
	m.line(b, head, bold)
	for i := range room {
		k := first + i
		switch {
		case k >= len(rows):
			m.line(b, "", "")
		case k == chosen:
			m.chosen(b, rows[k])
		default:
			m.line(b, rows[k], "")
		}
	}
}

// bottom is the last events, and the keys.
func (m *model) bottom(b *strings.Builder) {
	m.line(b, "-- last events "+strings.Repeat("-", max(m.w-17, 0)), dim)
	n := m.eventRows()
	ev := m.frame.Events
	ev = ev[max(0, len(ev)-n):]
	for i := range n {
		if i >= len(ev) {
			m.line(b, "", "")
			continue
		}
		times := "      "
		if c := ev[i].Count; c > 1 {
			times = fmt.Sprintf("%5s ", fmt.Sprintf("%dx", c))
		}
		m.line(b, times+ev[i].Text, colourOf(ev[i].Text))
	}
	b.WriteString(m.paint(fit(m.w, "  ", m.help()...), dim))
}

// colourOf is the colour of an event's line.
func colourOf(text string) string {
	switch {
	case strings.Contains(text, "(fatal)") || strings.Contains(text, "+++ killed"):
		return red
	case strings.Contains(text, " = -1 E"):
		return yellow
	case strings.Contains(text, "--- SIG"):
		return blue
	}
	return ""
}

// keyRows are what the keys do.
var keyRows = []string{
	"up down k j      choose a row", "pgup pgdn space  a page", "enter            look into a process, or at the bytes of a mapping", "esc              back",
	"s                sort by growth, size or name", "/                show only what has this text in its name", "left right       a hundredth of the log back or on",
	"[ ]              a step back or on", "home end         to the beginning or the end of the log", "d                let a running program go on alone", "q                leave",
}

// list is the table of processes; a narrow screen has no room for all columns.
func (m *model) list() (head string, rows []string) {
	name, spark := 12, 20
	wide := func(string) string { return "" }
	if m.w >= 100 {
		wide = func(s string) string { return fmt.Sprintf("%10s ", s) }
		name, spark = min(12+(m.w-100)/4, 30), 20+(m.w-100)/3
	}
	spark = min(spark, sparkPoints)
	head = fmt.Sprintf("%7s %-*s %3s %9s %s%9s %10s  %s", "PID", name, "PROGRAM", "THR", "RSS", wide("ANON"), "MAPPED", "RSS/s", "RSS OVER TIME")
	for _, p := range m.procs() {
		rows = append(rows, fmt.Sprintf("%7d %-*s %3d %9s %s%9s %10s  %s", p.PID, name, cut(p.Name, name), p.Threads, analyze.Size(p.RSS),
			wide(analyze.Size(p.Anon)), analyze.Size(p.Mapped), signed(int64(p.Rate)), analyze.Sparkline(fewer(p.Spark, spark), m.o.ASCII)))
	}
	return head, rows
}

// fewer is n of the values, evenly spaced.
func fewer(v []float64, n int) []float64 {
	if len(v) <= n {
		return v
	}
	out := make([]float64, n)
	for i := range out {
		out[i] = v[i*(len(v)-1)/(n-1)]
	}
	return out
}

// mappings is the table of a process's mappings.
func (m *model) mappings(p *Proc) (head string, rows []string) {
	rss, rate := "RSS", "RSS/s"
	if !m.src.Live() {
		rss, rate = "IN USE", "PER SECOND"
	}
	head = fmt.Sprintf("%10s %11s %10s %11s %5s  MAPPING", rss, rate, "MAPPED", "GROWTH", "COUNT")
	for _, x := range m.maps(p) {
		used, speed := "?", "?"
		if x.RSS != nil {
			used, speed = analyze.Size(*x.RSS), signed(int64(x.Rate))
		}
		rows = append(rows, fmt.Sprintf("%10s %11s %10s %11s %5d  %s", used, speed, analyze.Size(x.Size), signed(x.Growth), x.Count, tail(x.Name, m.w-55)))
	}
	return head, rows
}

func (m *model) head(b *strings.Builder) {
	f := &m.frame
	state, title := "live", "memtrace top"
	switch {
	case m.err != nil:
		state = m.err.Error()
	case m.done != "":
		state = m.done
	case !m.src.Live():
		state, title = "log", "memtrace replay"
	}
	m.line(b, fit(m.w-1, "  ", title, tail(replay.Escape(m.o.Title), m.w/2), "["+state+"]"), bold)
	processes := fmt.Sprintf("%d processes", len(f.Procs))
	if len(f.Procs) == 1 {
		processes = "1 process"
	}
	if p := m.process(); p != nil {
		processes = fmt.Sprintf("%s, process %d", p.Name, p.PID)
	}
	m.line(b, fit(m.w-1, "  ", processes, fmt.Sprintf("step %d", f.Step), f.Time.Round(10*time.Millisecond).String(), "by "+m.sort.String(),
		fmt.Sprintf("system: %s of %s free", analyze.Size(f.Free), analyze.Size(f.Total)), "cache "+analyze.Size(f.Cach)), "")
	if m.src.Live() {
		m.line(b, "", "")
		return
	}
	where := fmt.Sprintf(" step %d of %d", f.Step, f.Last)
	width := max(m.w-2-len(where), 10)
	at := 0
	if f.Last > 0 {
		at = int(uint64(f.Step) * uint64(width-1) / uint64(f.Last))
	}
	m.line(b, strings.Repeat("=", at)+"O"+strings.Repeat("-", width-1-at)+where, green)
}

// help is what the keys do, the most important first.
func (m *model) help() []string {
	if m.typing {
		return []string{"/" + m.filter + "_", "enter keeps it", "esc clears it"}
	}
	var s []string
	if m.filter != "" {
		s = append(s, "/"+m.filter, "esc clears it")
	}
	s = append(s, "q leave", "? keys")
	if m.bytes != nil || m.in != 0 {
		s = append(s, "esc back")
	}
	if m.bytes == nil {
		s = append(s, "enter into")
	}
	if m.src.Live() {
		s = append(s, "d detach")
	} else {
		s = append(s, "left/right time")
	}
	return append(s, "s sort", "/ filter", "arrows choose")
}

// fit joins as many of the parts as n columns have room for.
func fit(n int, between string, parts ...string) string {
	out := ""
	for i, p := range parts {
		if i > 0 {
			p = between + p
		}
		if len([]rune(out))+len([]rune(p)) > n {
			break
		}
		out += p
	}
	return out
}

// paint gives a text a colour, where there are colours.
func (m *model) paint(s, colour string) string {
	if m.o.Plain || colour == "" || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// line writes one line of the screen.
func (m *model) line(b *strings.Builder, s, colour string) {
	b.WriteString(m.paint(cut(" "+s, m.w), colour))
	b.WriteByte('\n')
}

// chosen writes the line of the chosen row.
func (m *model) chosen(b *strings.Builder, s string) {
	s = cut(">"+s, m.w)
	b.WriteString(m.paint(s+strings.Repeat(" ", max(m.w-len([]rune(s)), 0)), reverse))
	b.WriteByte('\n')
}

// cut shortens to n columns, and marks where something is missing.
func cut(s string, n int) string {
	r := []rune(s)
	switch {
	case len(r) <= n:
		return s
	case n > 20:
		return string(r[:n-3]) + "..."
	}
	return string(r[:max(n, 0)])
}

// tail is the end of a path, which says more than its beginning.
func tail(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 4 {
		return s
	}
	return "..." + string(r[len(r)-n+3:])
}

func signed(n int64) string {
	if n < 0 {
		return "-" + analyze.Size(uint64(-n))
	}
	return "+" + analyze.Size(uint64(n))
}
