//go:build linux

package tracee

import "testing"

func TestReplaceField(t *testing.T) {
	const text = "Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t12345\nUid:\t0\n"
	for _, c := range []struct {
		name, value string
		same        bool
		want        string
	}{
		{"TracerPid:\t", "0", false, "Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t0\nUid:\t0\n"},
		{"TracerPid:\t", "0", true, "Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t0    \nUid:\t0\n"},
		{"TracerPid:\t", "1234567", true, text}, // there is no room
		{"TracerPid:\t", "1234567", false, "Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t1234567\nUid:\t0\n"},
		{"Pid:\t", "0", false, text}, // the end of another name
		{"Gid:\t", "0", false, text},
	} {
		if got := string(replaceField([]byte(text), c.name, c.value, c.same)); got != c.want {
			t.Errorf("%q with %q, same length %v: %q", c.name, c.value, c.same, got)
		}
	}
}
