// Package analyze turns a log into reports. A report is a value first, and a
// table, JSON, CSV or Markdown only when it is written: what a person reads is
// rounded, what a program reads is not.
package analyze

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

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
)

// Column is a column's heading.
type Column struct {
	Key   string // in JSON and CSV
	Title string // for people; "" shows no heading
	Unit  Unit
	Fine  bool // in JSON and CSV only: more than a screen is wide
	Max   int  // most characters in a table; 0: no limit
	Cut   cutting
	Drop  uint8 // leave out where a table is too wide, lowest first; 0: never
}

// cutting says whether a text may be cut where a table is too wide.
type cutting uint8

const (
	whole     cutting = iota
	keepBegin         // of a command
	keepEnd           // of a path
)

// Result is what a report found.
type Result struct {
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
	// Notes are said to a person, after the table.
	Notes []string
	// Parts are further tables that a person sees with this one. In JSON they
	// are keys of their own; in CSV they are left out, since each is also a
	// report by itself.
	Parts []*Result
	// screen, where there is one, writes the result for a person in another
	// way than as a table.
	screen func() []string
}

// coarse is r without its fine columns.
func (r *Result) coarse() *Result {
	var fine []string
	for _, c := range r.Columns {
		if c.Fine {
			fine = append(fine, c.Key)
		}
	}
	c := *r
	if len(fine) > 0 {
		c.drop(fine...)
	}
	return &c
}

// drop takes columns out.
func (r *Result) drop(keys ...string) {
	keep := func(row []any) []any {
		var out []any
		for i, c := range r.Columns {
			if !slices.Contains(keys, c.Key) {
				out = append(out, row[i])
			}
		}
		return out
	}
	rows := make([][]any, len(r.Rows))
	for i, row := range r.Rows {
		rows[i] = keep(row)
	}
	r.Rows = rows
	if r.Total != nil {
		r.Total = keep(r.Total)
	}
	r.Columns = slices.DeleteFunc(slices.Clone(r.Columns), func(c Column) bool { return slices.Contains(keys, c.Key) })
}

// lines renders r's table with at most n rows.
func (r *Result) lines(n int) []string {
	c := *r
	c.Parts, c.Notes = nil, nil
	if len(c.Rows) > n {
		c.Rows = c.Rows[:n]
		c.Title += fmt.Sprintf(" (the %d largest of %d)", n, len(r.Rows))
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

// Format is a way to write a Result.
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

// Write writes r to w.
func (r *Result) Write(w io.Writer, f Format) error {
	switch f {
	case JSON:
		return r.writeJSON(w)
	case CSV:
		return r.writeCSV(w)
	}
	if r.screen != nil && f == Table {
		_, err := io.WriteString(w, strings.Join(r.screen(), "\n")+"\n")
		return err
	}
	if r.Title != "" {
		head := r.Title + "\n"
		if f == Markdown {
			head = "## " + r.Title + "\n\n"
		}
		if _, err := io.WriteString(w, head); err != nil {
			return err
		}
	}
	if len(r.Rows) > 0 || len(r.Notes) == 0 {
		if err := r.writeTable(w, f); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		if f == Markdown {
			n = "\n" + n
		} else {
			n = foldLines(n, r.Width)
		}
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	for _, p := range r.Parts {
		if f == Table && p.screen != nil && len(p.screen()) == 0 {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		p.Width = r.Width
		if err := p.Write(w, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) writeTable(w io.Writer, f Format) error {
	r = r.coarse()
	if f == Table {
		r = r.fit()
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
	align := make([]tw.Align, len(r.Columns))
	head := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		head[i] = c.Title
		align[i] = tw.AlignRight
		if c.Unit == Text || r.Units != nil {
			align[i] = tw.AlignLeft
		}
	}
	opts = append(opts, tablewriter.WithAlignment(align),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}))
	var out strings.Builder
	t := tablewriter.NewTable(&out, opts...)
	if r.Units == nil {
		t.Header(head)
	}
	rows := r.Rows
	if r.Total != nil {
		rows = append(slices.Clone(rows), r.Total)
	}
	for i, row := range rows {
		cells := make([]string, len(row))
		for j, v := range row {
			u := r.Columns[j].Unit
			if j == 1 && i < len(r.Units) {
				u = r.Units[i]
			}
			cells[j] = Human(v, u)
			if f == Table {
				cells[j] = r.Columns[j].shorten(cells[j])
			}
			if f == Markdown {
				cells[j] = strings.ReplaceAll(cells[j], "|", `\|`)
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

func (r *Result) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	head := make([]string, len(r.Columns))
	for i, col := range r.Columns {
		head[i] = col.Key
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for _, row := range r.Rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = rawText(v)
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
func (r *Result) writeJSON(w io.Writer) error {
	b := append([]byte(`{"report":`), quote(r.Report)...)
	if r.Units != nil {
		b = r.appendItems(b)
	} else {
		b = append(b, `,"rows":`...)
		b = r.appendRows(b)
	}
	for _, p := range r.Parts {
		b = append(append(append(b, ','), quote(p.Report)...), ':')
		b = p.appendRows(b)
	}
	_, err := w.Write(append(b, "}\n"...))
	return err
}

func (r *Result) appendItems(b []byte) []byte {
	for i, row := range r.Rows {
		k, _ := row[0].(string)
		b = append(append(append(b, ','), quote(strings.ReplaceAll(k, " ", "_"))...), ':')
		b = append(b, rawJSON(row[1], r.Units[i])...)
	}
	return b
}

func (r *Result) appendRows(b []byte) []byte {
	b = append(b, '[')
	for i, row := range r.Rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '{')
		for j, v := range row {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(append(b, quote(r.Columns[j].Key)...), ':')
			b = append(b, rawJSON(v, r.Columns[j].Unit)...)
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

// Human writes a cell for a person.
func Human(v any, u Unit) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return replay.Escape(v)
	case addr.Addr:
		return v.String()
	case float64:
		if u == Percent {
			return strconv.FormatFloat(v, 'f', 1, 64) + "%"
		}
		return strconv.FormatFloat(v, 'f', 2, 64)
	case int64:
		if v < 0 {
			return "-" + humanNumber(uint64(-v), u)
		}
		return humanNumber(uint64(v), u)
	case uint64:
		return humanNumber(v, u)
	}
	return fmt.Sprint(v)
}

func humanNumber(n uint64, u Unit) string {
	switch u {
	case Bytes:
		return Size(n)
	case Duration:
		return Span(n)
	}
	return strconv.FormatUint(n, 10)
}

// Size writes a number of bytes: "96 B", "1.5 MiB".
func Size(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len("KMGTPE")-1 {
		f /= 1024
		i++
	}
	s := strconv.FormatFloat(f, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0") + " " + "KMGTPE"[i:i+1] + "iB"
}

// Span writes nanoseconds with three digits that matter: "950 ns", "1.24 ms".
func Span(ns uint64) string {
	d := time.Duration(ns)
	f, unit := float64(ns), ""
	switch {
	case d < time.Microsecond:
		return strconv.FormatUint(ns, 10) + " ns"
	case d < time.Millisecond:
		f, unit = f/1e3, "us"
	case d < time.Second:
		f, unit = f/1e6, "ms"
	case d < 2*time.Minute:
		f, unit = f/1e9, "s"
	default:
		return d.Round(time.Second).String()
	}
	prec := 2
	if f >= 100 {
		prec = 0
	} else if f >= 10 {
		prec = 1
	}
	return strconv.FormatFloat(f, 'f', prec, 64) + " " + unit
}
