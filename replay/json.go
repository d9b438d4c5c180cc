package replay

import (
	"strconv"
	"unicode/utf8"

	"memtrace/format/vma"
)

// JSON is written by hand because a log has tens of millions of events.

// AppendJSON appends m's event as one JSON object without a newline, and follows
// the event as AppendLine does.
func (p *Printer) AppendJSON(b []byte, m *Moment) []byte { return AppendJSON(b, p.Fields(m)) }

// AppendJSON appends fields as one JSON object.
func AppendJSON(b []byte, fields []Field) []byte {
	b = append(b, '{')
	for i := range fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, fields[i].Name...)
		b = append(b, '"', ':')
		b = fields[i].AppendJSON(b)
	}
	return append(b, '}')
}

// AppendJSON appends a value as JSON.
func (v *Value) AppendJSON(b []byte) []byte {
	switch v.Kind {
	case ValueUint:
		return strconv.AppendUint(b, v.Num, 10)
	case ValueInt:
		return strconv.AppendInt(b, int64(v.Num), 10)
	case ValueHex:
		return hexStr(b, v.Num)
	case ValueBool:
		return strconv.AppendBool(b, v.Num != 0)
	case ValueText:
		return str(b, v.Text)
	case ValueObject:
		return AppendJSON(b, v.Fields)
	}
	b = append(b, '[')
	for i := range v.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = v.Fields[i].AppendJSON(b)
	}
	return append(b, ']')
}

func appendDev(b []byte, d vma.Dev) []byte {
	for i, n := range [2]uint32{d.Major, d.Minor} {
		if i > 0 {
			b = append(b, ':')
		}
		if n < 16 {
			b = append(b, '0')
		}
		b = strconv.AppendUint(b, uint64(n), 16)
	}
	return b
}

func key(b []byte, k string) []byte {
	b = append(b, ',', '"')
	b = append(b, k...)
	return append(b, '"', ':')
}

func hexStr(b []byte, v uint64) []byte {
	b = append(b, `"0x`...)
	b = strconv.AppendUint(b, v, 16)
	return append(b, '"')
}

// str appends a JSON string; bytes that are no UTF-8 become U+FFFD.
func str(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	done := 0 // what of s is in b
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[done:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n - 1
		}
		i++
		done = i
	}
	return append(append(b, s[done:]...), '"')
}
