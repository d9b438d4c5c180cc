package analyze

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"memtrace/format/addr"
	"memtrace/replay"
)

// Human writes a cell for a person.
func Human(v any, u Unit) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		if u == Picture {
			return v
		}
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
