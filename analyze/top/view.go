package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"memtrace/analyze"
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
	in     uint32 // number of the process that is looked into; 0: the list
	row    int
	sort   order
	filter string
	typing bool // the filter
	done   string
	end    End
}

func newModel(src Source, o Options) *model {
	m := &model{src: src, o: o, w: 80, h: 24}
	m.look()
	return m
}

func (m *model) look() { m.frame, m.err = m.src.Frame() }

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
	switch k.String() {
	case "q", "ctrl+c":
		m.end = Quit
		return m, tea.Quit
	case "d":
		if m.src.Live() {
			m.end = Detach
			return m, tea.Quit
		}
	case "up", "k":
		m.row--
	case "down", "j":
		m.row++
	case "pgup":
		m.row -= 10
	case "pgdown":
		m.row += 10
	case "enter":
		if ps := m.procs(); m.in == 0 && m.row < len(ps) {
			m.in, m.row = ps[m.row].No, 0
		}
	case "esc", "backspace":
		if m.filter != "" {
			m.filter = ""
		} else {
			m.in = 0
		}
		m.row = 0
	case "s":
		m.sort = (m.sort + 1) % orders
	case "/":
		m.typing, m.filter = true, ""
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
		return cmp.Or(cmp.Compare(b.Growth, a.Growth), cmp.Compare(b.Size, a.Size), cmp.Compare(a.Name, b.Name))
	})
	return ms
}

// eventRows is how many events are shown.
const eventRows = 6

func (m *model) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	return v
}

// screen is the view as a text.
func (m *model) screen() string {
	var b strings.Builder
	room := max(m.h-eventRows-6, 3)
	m.head(&b)
	var p *Proc
	for i := range m.frame.Procs {
		if m.frame.Procs[i].No == m.in {
			p = &m.frame.Procs[i]
		}
	}
	var head string
	var rows []string
	switch {
	case m.in != 0 && p == nil:
		head = "this process has ended, or not begun: esc goes back"
	case m.in != 0:
		head = fmt.Sprintf("%11s %11s %6s  %s", "MAPPED", "GROWTH", "COUNT", fmt.Sprintf("MAPPINGS OF %s (%d)", p.Name, p.PID))
		for _, x := range m.maps(p) {
			rows = append(rows, fmt.Sprintf("%11s %11s %6d  %s", analyze.Size(x.Size), signed(x.Growth), x.Count, tail(x.Name, m.w-34)))
		}
	default:
		head, rows = m.list()
	}
	m.row = min(max(m.row, 0), max(len(rows)-1, 0))
	first := max(0, m.row-room+1)
	m.line(&b, head, false)
	for i := range room {
		if k := first + i; k < len(rows) {
			m.line(&b, rows[k], k == m.row)
		} else {
			m.line(&b, "", false)
		}
	}
	m.line(&b, "-- last events "+strings.Repeat("-", max(m.w-15, 0)), false)
	ev := m.frame.Events
	ev = ev[max(0, len(ev)-eventRows):]
	for i := range eventRows {
		if i < len(ev) {
			m.line(&b, ev[i], false)
		} else {
			m.line(&b, "", false)
		}
	}
	b.WriteString(cut(m.help(), m.w))
	return b.String()
}

// list is the table of processes; a narrow screen has no room for all columns.
func (m *model) list() (head string, rows []string) {
	wide := func(s string) string {
		if m.w < 100 {
			return ""
		}
		return fmt.Sprintf("%10s ", s)
	}
	head = fmt.Sprintf("%7s %-12s %3s %9s %s%9s %10s  %s", "PID", "PROGRAM", "THR", "RSS", wide("ANON"), "MAPPED", "RSS/s", "RSS OVER TIME")
	for _, p := range m.procs() {
		rows = append(rows, fmt.Sprintf("%7d %-12s %3d %9s %s%9s %10s  %s", p.PID, cut(p.Name, 12), p.Threads, analyze.Size(p.RSS),
			wide(analyze.Size(p.Anon)), analyze.Size(p.Mapped), signed(int64(p.Rate)), analyze.Sparkline(p.Spark, m.o.ASCII)))
	}
	return head, rows
}

func (m *model) head(b *strings.Builder) {
	f := &m.frame
	state := "live"
	switch {
	case m.err != nil:
		state = m.err.Error()
	case m.done != "":
		state = m.done
	case !m.src.Live():
		state = "log"
	}
	m.line(b, fmt.Sprintf("memtrace top  %s  [%s]", m.o.Title, state), false)
	m.line(b, fmt.Sprintf("%d processes  step %d  %s  by %s  system: %s of %s free, cache %s", len(f.Procs), f.Step,
		f.Time.Round(10*time.Millisecond), m.sort, analyze.Size(f.Free), analyze.Size(f.Total), analyze.Size(f.Cach)), false)
	if !m.src.Live() {
		width := max(m.w-24, 10)
		at := 0
		if f.Last > 0 {
			at = int(uint64(f.Step) * uint64(width-1) / uint64(f.Last))
		}
		m.line(b, fmt.Sprintf("%s%s%s %d of %d", strings.Repeat("=", at), "O", strings.Repeat("-", width-1-at), f.Step, f.Last), false)
		return
	}
	m.line(b, "", false)
}

func (m *model) help() string {
	if m.typing || m.filter != "" {
		s := "/" + m.filter
		if m.typing {
			s += "_   enter keeps it, esc clears it"
		} else {
			s += "   esc clears it"
		}
		return s
	}
	s := "q leave  arrows choose  enter into  esc back  s sort  / filter"
	if m.src.Live() {
		return s + "  d detach"
	}
	return s + "  left/right time"
}

// line writes one line of the screen.
func (m *model) line(b *strings.Builder, s string, chosen bool) {
	mark := " "
	if chosen {
		mark = ">"
	}
	s = cut(mark+s, m.w)
	if chosen && !m.o.Plain {
		s = "\x1b[7m" + s + strings.Repeat(" ", max(m.w-len([]rune(s)), 0)) + "\x1b[0m"
	}
	b.WriteString(s)
	b.WriteByte('\n')
}

// cut shortens to n columns.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
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
