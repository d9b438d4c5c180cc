// Package analyze turns a log into reports. A report is a value with typed rows
// first, and a table, JSON, CSV or Markdown only when it is written: what a
// person reads is rounded, what a program reads is not.
package analyze

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"memtrace/format/addr"
	"memtrace/replay"
)

// Unit says what the numbers of a column are.
type Unit uint8

// The units, with the types of their cells.
const (
	Text     Unit = iota // string
	Count                // uint64 or int64
	Bytes                // uint64 or int64
	Address              // addr.Addr
	Duration             // uint64 nanoseconds
	Percent              // float64, 100 is the whole
	Picture              // string of our own making: shown as it is
)

// Column is a column's heading.
type Column struct {
	Key   string // in JSON and CSV
	Title string // for people; "" shows no heading
	Unit  Unit
	Fine  bool // in JSON and CSV only: more than a screen is wide
	Max   int  // most characters in a table; 0: no limit
	Least int  // fewest characters that a text is cut to; 0: a usual number
	Cut   cutting
	Drop  uint8 // leave out where a table is too wide, lowest first; 0: never
	field []int // where a row has it
}

// cutting says whether a text may be cut where a table is too wide.
type cutting uint8

const (
	whole     cutting = iota
	keepBegin         // of a command
	keepEnd           // of a path
)

// Sheet is a report laid out in cells: all formats are written from it.
type Sheet struct {
	Report  string
	Title   string
	Columns []Column
	// Rows hold cells of the columns' types; nil is "not known".
	Rows [][]any
	// Total, if there is one, is a last row that sums up.
	Total []any
	// Units, for a table of items and values, has the unit of each row's
	// value.
	Units []Unit
	// Width is how wide a table may be; 0: as wide as it is.
	Width int
	// Named says that CSV has the report's name in a first column, for several reports
	// in one file.
	Named bool
	// Notes are said to a person, after the table.
	Notes []string
	// Parts are further tables of the report. A person sees them after this one; in JSON
	// they are keys of their own, and in CSV tables of their own.
	Parts []*Sheet
	// several says that the report may have Parts. Its CSV has the names of tables in
	// the first column then, also where a log has none of the Parts.
	several bool
	// screen, where there is one, writes the sheet for a person in another way
	// than as a table.
	screen func(*Sheet) []string
	sorted bool // by a column that the user chose
}

// coarse is s without its fine columns.
func (s *Sheet) coarse() *Sheet {
	var fine []string
	for _, c := range s.Columns {
		if c.Fine {
			fine = append(fine, c.Key)
		}
	}
	c := *s
	if len(fine) > 0 {
		c.drop(fine...)
	}
	return &c
}

// drop takes columns out.
func (s *Sheet) drop(keys ...string) {
	keep := func(row []any) []any {
		var out []any
		for i, c := range s.Columns {
			if !slices.Contains(keys, c.Key) {
				out = append(out, row[i])
			}
		}
		return out
	}
	rows := make([][]any, len(s.Rows))
	for i, row := range s.Rows {
		rows[i] = keep(row)
	}
	s.Rows = rows
	if s.Total != nil {
		s.Total = keep(s.Total)
	}
	s.Columns = slices.DeleteFunc(slices.Clone(s.Columns), func(c Column) bool { return slices.Contains(keys, c.Key) })
}

// lines renders s's table with at most n rows.
func (s *Sheet) lines(n int) []string {
	c := *s
	c.Parts, c.Notes = nil, nil
	if len(c.Rows) > n {
		c.Rows = c.Rows[:n]
		c.Title += fmt.Sprintf(" (the %d largest of %d)", n, len(s.Rows))
	}
	var b strings.Builder
	if err := c.Write(&b, Table); err != nil {
		return []string{err.Error()}
	}
	var out []string
	for l := range strings.Lines(b.String()) {
		out = append(out, cut(strings.TrimRight(l, "\n"), 79))
	}
	return out
}

// Sort orders the rows by a column.
func (s *Sheet) Sort(by string) error {
	key, turn := by, 1
	if strings.HasPrefix(by, "-") {
		key, turn = by[1:], -1
	}
	i := slices.IndexFunc(s.Columns, func(c Column) bool { return c.Key == key || strings.EqualFold(c.Title, key) })
	if i < 0 {
		var keys []string
		for _, c := range s.Columns {
			keys = append(keys, c.Key)
		}
		return replay.WordError{E: fmt.Errorf("no column %q: want %s", key, strings.Join(keys, ", "))}
	}
	order := make([]int, len(s.Rows))
	for n := range order {
		order[n] = n
	}
	slices.SortStableFunc(order, func(a, b int) int { return turn * compare(s.Rows[a][i], s.Rows[b][i]) })
	s.Rows, s.Units = pick(s.Rows, order), pick(s.Units, order)
	s.sorted = true
	return nil
}

// pick is all in another order.
func pick[T any](all []T, order []int) []T {
	if all == nil {
		return nil
	}
	out := make([]T, len(order))
	for n, i := range order {
		out[n] = all[i]
	}
	return out
}

// column is the column with a key.
func (s *Sheet) column(key string) *Column {
	i := slices.IndexFunc(s.Columns, func(c Column) bool { return c.Key == key })
	return &s.Columns[i]
}

// Cut keeps the first n rows and returns how many it left out.
func (s *Sheet) Cut(n int) (left int) {
	left = max(len(s.Rows)-n, 0)
	s.Rows = s.Rows[:len(s.Rows)-left]
	return left
}

// compare puts big numbers first, texts in order, and what is not known last.
func compare(a, b any) int {
	if a == nil || b == nil {
		switch {
		case a != nil:
			return -1
		case b != nil:
			return 1
		}
		return 0
	}
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return cmp.Compare(a, b)
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			return cmp.Compare(b, a)
		}
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(b, a)
		}
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(b, a)
		}
	case addr.Addr:
		if b, ok := b.(addr.Addr); ok {
			return cmp.Compare(a, b)
		}
	}
	return 0
}

// Format is a way to write a Sheet.
type Format string

// The formats.
const (
	Table    Format = "table"
	JSON     Format = "json"
	CSV      Format = "csv"
	Markdown Format = "markdown"
)

// Formats are all of them.
var Formats = []Format{Table, JSON, CSV, Markdown}

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	if s == "md" {
		return Markdown, nil
	}
	if slices.Contains(Formats, Format(s)) {
		return Format(s), nil
	}
	return "", fmt.Errorf("no format %q: want table, json, csv or markdown", s)
}

// Write writes s to w.
func (s *Sheet) Write(w io.Writer, f Format) error {
	switch f {
	case JSON:
		return s.writeJSON(w)
	case CSV:
		return s.writeCSV(w)
	}
	if s.screen != nil && f == Table {
		_, err := io.WriteString(w, strings.Join(s.screen(s), "\n")+"\n")
		return err
	}
	if s.Title != "" {
		head := s.Title + "\n"
		if f == Markdown {
			head = "## " + s.Title + "\n\n"
		}
		if _, err := io.WriteString(w, head); err != nil {
			return err
		}
	}
	if len(s.Rows) > 0 || len(s.Notes) == 0 {
		if err := s.writeTable(w, f); err != nil {
			return err
		}
	}
	for _, n := range s.Notes {
		if f == Markdown {
			n = "\n" + n
		} else {
			n = foldLines(n, s.Width)
		}
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	for _, p := range s.Parts {
		if f == Table && p.screen != nil && len(p.screen(p)) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		p.Width = s.Width
		if err := p.Write(w, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sheet) writeTable(w io.Writer, f Format) error {
	s = s.coarse()
	if f == Table {
		s = s.fit()
	}
	opts := []tablewriter.Option{
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone),
		tablewriter.WithFooterAutoWrap(tw.WrapNone),
	}
	if f == Markdown {
		opts = append(opts, tablewriter.WithRenderer(renderer.NewMarkdown()))
	} else {
		opts = append(opts, tablewriter.WithRendition(tw.Rendition{
			Borders: tw.BorderNone,
			Settings: tw.Settings{
				Lines:      tw.Lines{ShowTop: tw.Off, ShowBottom: tw.Off, ShowHeaderLine: tw.Off, ShowFooterLine: tw.Off},
				Separators: tw.Separators{ShowHeader: tw.Off, ShowFooter: tw.Off, BetweenRows: tw.Off, BetweenColumns: tw.Off},
			},
		}), tablewriter.WithPadding(tw.Padding{Left: tw.Empty, Right: "  ", Overwrite: true}))
	}
	align := make([]tw.Align, len(s.Columns))
	head := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		head[i] = c.Title
		align[i] = tw.AlignRight
		if c.Unit == Text || c.Unit == Picture || s.Units != nil {
			align[i] = tw.AlignLeft
		}
	}
	opts = append(opts, tablewriter.WithAlignment(align),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}))
	var out strings.Builder
	t := tablewriter.NewTable(&out, opts...)
	if s.Units == nil {
		t.Header(head)
	}
	rows := s.Rows
	if s.Total != nil {
		rows = append(slices.Clone(rows), s.Total)
	}
	for i, row := range rows {
		cells := make([]string, len(row))
		for j, v := range row {
			u := s.Columns[j].Unit
			if j == 1 && i < len(s.Units) {
				u = s.Units[i]
			}
			cells[j] = Human(v, u)
			if f == Table {
				cells[j] = s.Columns[j].shorten(cells[j])
			}
			if f == Markdown {
				cells[j] = markdownText(cells[j])
			}
		}
		if err := t.Append(cells); err != nil {
			return err
		}
	}
	if err := t.Render(); err != nil {
		return err
	}
	for line := range strings.Lines(out.String()) {
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// markdownMeans is what means something in a cell of Markdown, or in the HTML that it
// may hold.
var markdownMeans = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", "\\", `\\`, "|", `\|`, "`", "\\`", "*", `\*`, "[", `\[`, "]", `\]`, "~", `\~`, "!", `\!`,
	"://", `:\//`, "www.", `www\.`, "@", `\@`, "\n", " ", "\r", " ",
)

// markdownText is a text of a log as Markdown shows it: no link, image or HTML of the
// log's comes alive.
func markdownText(s string) string {
	s = markdownMeans.Replace(s)
	if strings.IndexByte(s, '_') < 0 {
		return s
	}
	inWord := func(i int) bool {
		return i >= 0 && i < len(s) && (s[i] >= '0' && s[i] <= '9' || s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z')
	}
	var b []byte
	for i := range len(s) {
		if s[i] == '_' && (!inWord(i-1) || !inWord(i+1)) { // within a word it means nothing
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(b)
}

// CSVText is a text of a log as a cell of CSV: one that a spreadsheet would take for a
// formula begins with an apostrophe, and so does one that begins with an apostrophe.
// What is behind it is the text.
func CSVText(s string) string {
	if s != "" && strings.IndexByte("=+-@\t\r'", s[0]) >= 0 {
		return "'" + s
	}
	return s
}

// writeCSV writes s and its Parts.
func (s *Sheet) writeCSV(w io.Writer) error {
	named := s.Named || s.several || len(s.Parts) > 0
	if err := s.writeOneCSV(w, named); err != nil {
		return err
	}
	for _, p := range s.Parts {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		part := *p
		part.Named = true
		if err := part.writeCSV(w); err != nil {
			return err
		}
	}
	return nil
}

// writeOneCSV writes the table of s itself, with its name in a first column if named.
func (s *Sheet) writeOneCSV(w io.Writer, named bool) error {
	c := csv.NewWriter(w)
	var head, name []string
	if named {
		head, name = []string{"report"}, []string{s.Report}
	}
	for _, col := range s.Columns {
		head = append(head, col.Key)
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for _, row := range s.Rows {
		cells := slices.Clone(name)
		for _, v := range row {
			text := rawText(v)
			if _, is := v.(string); is {
				text = CSVText(text)
			}
			cells = append(cells, text)
		}
		if err := c.Write(cells); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// writeJSON writes {"report": NAME, "rows": [{...}], PART: [{...}]}, or for a
// table of items {"report": NAME, ITEM: VALUE, ...}.
func (s *Sheet) writeJSON(w io.Writer) error {
	b := append([]byte(`{"report":`), quote(s.Report)...)
	if s.Units != nil {
		b = s.appendItems(b)
	} else {
		b = append(b, `,"rows":`...)
		b = s.appendRows(b)
	}
	for _, p := range s.Parts {
		b = append(append(append(b, ','), quote(p.Report)...), ':')
		b = p.appendRows(b)
	}
	_, err := w.Write(append(b, "}\n"...))
	return err
}

func (s *Sheet) appendItems(b []byte) []byte {
	for i, row := range s.Rows {
		k, _ := row[0].(string)
		b = append(append(append(b, ','), quote(strings.ReplaceAll(k, " ", "_"))...), ':')
		b = append(b, rawJSON(row[1], s.Units[i])...)
	}
	return b
}

func (s *Sheet) appendRows(b []byte) []byte {
	b = append(b, '[')
	for i, row := range s.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		for j, v := range row {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(append(b, quote(s.Columns[j].Key)...), ':')
			b = append(b, rawJSON(v, s.Columns[j].Unit)...)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return []byte(`""`)
	}
	return b
}

func rawJSON(v any, u Unit) []byte {
	switch v := v.(type) {
	case nil:
		return []byte("null")
	case string:
		return quote(v)
	case addr.Addr:
		return quote(v.String())
	}
	return []byte(rawText(v))
}

func rawText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case uint64:
		return strconv.FormatUint(v, 10)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case addr.Addr:
		return v.String()
	}
	return fmt.Sprint(v)
}
