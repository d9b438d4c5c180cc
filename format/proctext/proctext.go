// Package proctext reads the "Key: value" lines of /proc: of status, meminfo, smaps
// and fdinfo. A recorder reads them of living programs, a reader finds them in the
// log's samples.
package proctext

import (
	"bytes"
	"iter"
	"strconv"
)

// Value is what stands behind a key, without the blanks around it.
type Value []byte

// Line is a line that begins with a key and a colon. A key has no blanks: the line
// of a mapping in smaps, whose device has a colon, is none.
func Line(line []byte) (key []byte, v Value, ok bool) {
	i := bytes.IndexByte(line, ':')
	if i <= 0 || bytes.ContainsAny(line[:i], " \t\n") {
		return nil, nil, false
	}
	return line[:i], bytes.TrimSpace(line[i+1:]), true
}

// Fields yields the keys and values of a text in order. Other lines are left out.
func Fields(text []byte) iter.Seq2[[]byte, Value] {
	return func(yield func([]byte, Value) bool) {
		for line := range bytes.Lines(text) {
			if k, v, ok := Line(line); ok && !yield(k, v) {
				return
			}
		}
	}
}

// Field is the value of the first line with a key; it is empty where there is none.
func Field(text []byte, key string) Value {
	for k, v := range Fields(text) {
		if string(k) == key {
			return v
		}
	}
	return nil
}

func (v Value) String() string { return string(v) }

// first is the first word.
func (v Value) first() (word string, rest []byte) {
	if i := bytes.IndexAny(v, " \t"); i >= 0 {
		return string(v[:i]), bytes.TrimSpace(v[i:])
	}
	return string(v), nil
}

// Number is the decimal number that the value is or begins with.
func (v Value) Number() (n uint64, ok bool) {
	word, _ := v.first()
	n, err := strconv.ParseUint(word, 10, 64)
	if err != nil {
		return 0, false
	}
	return n, true
}

// Size is Number in bytes where the value says kB. A number without a unit is as
// it is.
func (v Value) Size() (n uint64, ok bool) {
	n, ok = v.Number()
	if _, unit := v.first(); string(unit) != "kB" {
		return n, ok
	}
	if n>>54 != 0 {
		return 0, false
	}
	return n << 10, ok
}

// Hex is a mask of signals or capabilities, 0 where the value is no hexadecimal
// number.
func (v Value) Hex() uint64 {
	n, err := strconv.ParseUint(string(v), 16, 64)
	if err != nil {
		return 0
	}
	return n
}
