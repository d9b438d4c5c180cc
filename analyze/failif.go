package analyze

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bound is a condition on the figures of a comparison: "peak_rss > 1.1*a".
type Bound struct {
	text, figure, op string
	factor, plus     float64 // what B is compared with: factor times A's, and so much more
}

var boundForm = regexp.MustCompile(`^\s*([a-z_]+)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*$`)

// ParseBound reads FIGURE OP VALUE, where OP is < <= > >= == or !=, and VALUE a number, a
// size (10M), a time (2s), or what A has as a, 1.1*a, a+10M.
func ParseBound(s string) (*Bound, error) {
	m := boundForm.FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("%q is no bound: want FIGURE OP VALUE, as peak_rss > 1.1*a", s)
	}
	b := &Bound{text: strings.TrimSpace(s), figure: m[1], op: m[2]}
	value := strings.ReplaceAll(m[3], " ", "")
	if base, plus, ok := strings.Cut(value, "a+"); ok && (base == "" || strings.HasSuffix(base, "*")) {
		n, err := boundNumber(plus)
		if err != nil {
			return nil, err
		}
		b.plus, value = n, base+"a"
	}
	switch {
	case value == "a":
		b.factor = 1
	case strings.HasSuffix(value, "*a"):
		f, err := strconv.ParseFloat(strings.TrimSuffix(value, "*a"), 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no bound: %s is no number", s, strings.TrimSuffix(value, "*a"))
		}
		b.factor = f
	default:
		n, err := boundNumber(value)
		if err != nil {
			return nil, err
		}
		b.plus = n
	}
	return b, nil
}

// boundNumber reads a number, a size or a time (in ns).
func boundNumber(s string) (float64, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return float64(d), nil
	}
	if i := len(s) - 1; i > 0 {
		if k := strings.IndexByte("KMGT", s[i]&^0x20); k >= 0 {
			if f, err := strconv.ParseFloat(s[:i], 64); err == nil {
				return f * float64(uint64(1)<<(10*(k+1))), nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no number, size (10M) or time (2s)", s)
}

// Check says what is so if the bound is broken, that is, if the condition holds; "" if it
// is not. The error is of a figure that there is not.
func (b *Bound) Check(c *Comparison) (broken string, err error) {
	figures := c.Figures()
	v, ok := figures[b.figure]
	if !ok {
		return "", fmt.Errorf("%q: no figure %q: want %s", b.text, b.figure, strings.Join(slices.Sorted(maps.Keys(figures)), ", "))
	}
	limit := b.factor*v[0] + b.plus
	holds := map[string]bool{
		"<": v[1] < limit, "<=": v[1] <= limit, ">": v[1] > limit, ">=": v[1] >= limit, "==": v[1] == limit, "!=": v[1] != limit,
	}[b.op]
	if !holds {
		return "", nil
	}
	i := slices.IndexFunc(c.metrics, func(m metric) bool { return m.name == b.figure })
	show := func(f float64) string { return Human(int64(f), c.metrics[i].unit) }
	return fmt.Sprintf("%s: A has %s, B has %s", b.text, show(v[0]), show(v[1])), nil
}
