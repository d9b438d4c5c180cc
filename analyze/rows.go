package analyze

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"memtrace/format/addr"
)

// A report's rows are structs, whose fields say in a tag what column they are:
//
//	Time uint64 `col:"time,TIME,ns,drop=2"`
//
// has the key time in JSON and CSV, the heading TIME, and options: bytes, ns or
// percent is the unit (else it follows from the type), text has a number written
// as a text, picture is a text of our own making, fine, max=N, least=N, drop=N and cut=begin or cut=end are the fields of
// Column. A nil pointer is "not known".
//
// A report of items is a struct too. `item:"peak step"` is an item of that name,
// with the same options; omit leaves out one that is nil, "" or 0.

// column reads a tag of a field of type t.
func column(tag string, t reflect.Type) Column {
	parts := strings.Split(tag, ",")
	c := Column{Key: parts[0], Title: parts[1], Unit: unitOf(t)}
	for _, opt := range parts[2:] {
		name, value, _ := strings.Cut(opt, "=")
		n, _ := strconv.ParseUint(value, 10, 8)
		switch name {
		case "bytes":
			c.Unit = Bytes
		case "ns":
			c.Unit = Duration
		case "percent":
			c.Unit = Percent
		case "text":
			c.Unit = Text
		case "picture":
			c.Unit = Picture
		case "fine":
			c.Fine = true
		case "max":
			c.Max = int(n)
		case "least":
			c.Least = int(n)
		case "drop":
			c.Drop = uint8(n)
		case "cut":
			c.Cut = map[string]cutting{"begin": keepBegin, "end": keepEnd}[value]
		default:
			panic(fmt.Sprintf("tag %q of a report's row: no option %q", tag, opt))
		}
	}
	return c
}

var addrType = reflect.TypeFor[addr.Addr]()

// unitOf is the unit of values of a type that has none in its tag.
func unitOf(t reflect.Type) Unit {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == addrType:
		return Address
	case t.Kind() == reflect.String || t.Implements(reflect.TypeFor[fmt.Stringer]()):
		return Text
	}
	return Count
}

// columns are those of a type of rows, with those of what it embeds.
func columns(t reflect.Type) []Column {
	var out []Column
	for _, f := range reflect.VisibleFields(t) {
		if tag, ok := f.Tag.Lookup("col"); ok {
			c := column(tag, f.Type)
			c.field = f.Index
			out = append(out, c)
		}
	}
	return out
}

// sheet lays rows out below the columns of their type.
func sheet[R any](report string, rows []R) *Sheet {
	s := &Sheet{Report: report, Columns: columns(reflect.TypeFor[R]())}
	for i := range rows {
		s.Rows = append(s.Rows, s.cells(reflect.ValueOf(&rows[i]).Elem()))
	}
	return s
}

// sum adds a last row that sums up: the columns of row that keys name, or all.
func (s *Sheet) sum(row any, keys ...string) {
	s.Total = s.cells(reflect.ValueOf(row))
	if len(keys) == 0 {
		return
	}
	for i := range s.Columns {
		if !slices.Contains(keys, s.Columns[i].Key) {
			s.Total[i] = ""
		}
	}
}

func (s *Sheet) cells(row reflect.Value) []any {
	out := make([]any, len(s.Columns))
	for i := range s.Columns {
		out[i] = cell(row.FieldByIndex(s.Columns[i].field), s.Columns[i].Unit)
	}
	return out
}

// cell is a field's value as one of the types that a Sheet holds.
func cell(v reflect.Value, u Unit) any {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	if v.Type() == addrType {
		return v.Interface()
	}
	if s, ok := v.Interface().(fmt.Stringer); ok {
		return s.String()
	}
	var out any
	switch {
	case v.CanUint():
		out = v.Uint()
	case v.CanInt():
		out = v.Int()
	case v.CanFloat():
		out = v.Float()
	default:
		return v.String()
	}
	if u == Text {
		return rawText(out)
	}
	return out
}

// items lays out a struct of items.
func items[R any](report string, r *R) *Sheet {
	s := &Sheet{Report: report, Columns: []Column{{Key: "item", Unit: Text}, {Key: "value", Unit: Text}}}
	v := reflect.ValueOf(r).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		tag, ok := f.Tag.Lookup("item")
		if !ok {
			continue
		}
		name, opts, _ := strings.Cut(tag, ",")
		rest, omit := strings.CutSuffix(","+opts, ",omit")
		c := column(name+","+strings.TrimSuffix(rest, ","), f.Type)
		value := cell(v.FieldByIndex(f.Index), c.Unit)
		if omit && (value == nil || value == "" || value == uint64(0)) {
			continue
		}
		s.Rows = append(s.Rows, []any{name, value})
		s.Units = append(s.Units, c.Unit)
	}
	return s
}
