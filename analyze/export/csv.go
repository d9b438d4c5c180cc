package export

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"memtrace/analyze"
	"memtrace/replay"
)

// csvColumns are the fields of an event that have a column of their own; what
// else an event has is in the last column, as JSON.
var csvColumns = [...]string{"step", "time", "pid", "tid", "type", "name", "decoded", "ret", "errno", "start", "signo", "status", "signal", "child", "path"}

// csvEvents writes a row an event. It does so by hand because a log has tens of
// millions of events: encoding/csv would have each cell as a string first.
func csvEvents(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	out := bufio.NewWriter(w)
	if _, err := out.WriteString(strings.Join(csvColumns[:], ",") + ",more\n"); err != nil {
		return nil, err
	}
	var r csvRow
	err := t.Each(ctx, o.list(), func(p *replay.Printer, m *replay.Moment) error {
		_, err := out.Write(r.line(p.Fields(m)))
		return err
	})
	return nil, cmp.Or(err, out.Flush())
}

// csvRow makes the row of one event after the other.
type csvRow struct {
	row    []byte
	others []*replay.Field
	json   []byte
}

func (r *csvRow) line(fields []replay.Field) []byte {
	var cells [len(csvColumns)]*replay.Field
	r.others = r.others[:0]
	next := 0 // fields and columns are much in the same order
	for i := range fields {
		f := &fields[i]
		if at := column(f.Name, next); at >= 0 {
			cells[at], next = f, at+1
		} else {
			r.others = append(r.others, f)
		}
	}
	b := r.row[:0]
	for _, f := range cells {
		if f != nil {
			b = appendCell(b, &f.Value)
		}
		b = append(b, ',')
	}
	if len(r.others) > 0 {
		b = r.appendMore(b)
	}
	r.row = append(b, '\n')
	return r.row
}

// column is the column of a field, or -1. It looks from next on first.
func column(name string, next int) int {
	for i := next; i < len(csvColumns); i++ {
		if csvColumns[i] == name {
			return i
		}
	}
	return slices.Index(csvColumns[:next], name)
}

// appendCell appends a value, in quotes where it would be read as another
// otherwise (RFC 4180; encoding/csv quotes the same).
func appendCell(b []byte, v *replay.Value) []byte {
	if v.Kind != replay.ValueText || plain(v.Text) {
		return v.AppendText(b)
	}
	if text := analyze.CSVText(v.Text); len(text) != len(v.Text) {
		v = &replay.Value{Kind: replay.ValueText, Text: text}
	}
	first, _ := utf8.DecodeRuneInString(v.Text)
	if !strings.ContainsAny(v.Text, ",\"\r\n") && !unicode.IsSpace(first) && v.Text != `\.` {
		return v.AppendText(b)
	}
	b = append(b, '"')
	from := len(b)
	b = v.AppendText(b)
	if bytes.IndexByte(b[from:], '"') >= 0 {
		b = append(b[:from], bytes.ReplaceAll(b[from:], []byte{'"'}, []byte(`""`))...)
	}
	return append(b, '"')
}

// plain says that a text needs no further look: most have nothing but letters,
// digits and underscores.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i] | 0x20; (c < 'a' || c > 'z') && (s[i] < '0' || s[i] > '9') && s[i] != '_' {
			return false
		}
	}
	return true
}

// appendMore appends the fields that have no column as a JSON object in quotes,
// sorted, and with what means something in HTML escaped, as encoding/json does.
func (r *csvRow) appendMore(b []byte) []byte {
	slices.SortFunc(r.others, func(a, b *replay.Field) int { return cmp.Compare(a.Name, b.Name) })
	j := r.json[:0]
	for i, f := range r.others {
		j = append(j, "{,"[min(i, 1)], '"')
		j = append(append(j, f.Name...), '"', ':')
		j = f.AppendJSON(j)
	}
	r.json = append(j, '}')
	return append(appendEscaped(append(b, '"'), r.json), '"')
}

// appendEscaped appends JSON as it stands between the quotes of a cell.
func appendEscaped(b, json []byte) []byte {
	const digits = "0123456789abcdef"
	done := 0 // what of json is in b
	for i, c := range json {
		switch {
		case c == '"':
			b = append(append(b, json[done:i]...), '"')
			done = i // with the quote itself
		case c == '<' || c == '>' || c == '&':
			b = append(append(b, json[done:i]...), '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
			done = i + 1
		case c == 0xe2 && i+2 < len(json) && json[i+1] == 0x80 && json[i+2]&^1 == 0xa8: // U+2028, U+2029
			b = append(append(append(b, json[done:i]...), `\u202`...), digits[json[i+2]&15])
			done = i + 3
		}
	}
	return append(b, json[done:]...)
}
