//go:build linux

package inproc

import "testing"

// TestInstead: our handler of SIGSYS is told of the signal, whether or not the program's is, and the
// program's action is otherwise as it was.
func TestInstead(t *testing.T) {
	c := Code{Base: 0x10000}
	handler, restorer := uint64(c.at(labels.Handler)), uint64(c.at(labels.Restorer))
	for _, x := range []struct {
		is, want Action
		ok       bool
	}{
		{Action{}, Action{handler, hasInfo | onStack | hasRestorer, restorer, 0}, true},
		{Action{0x1234, hasRestorer, 0x5678, 9}, Action{handler, hasInfo | hasRestorer, 0x5678, 9}, true},
		{Action{0x1234, hasInfo | onStack, 0, 9}, Action{handler, hasInfo | onStack | hasRestorer, restorer, 9}, true},
		{Action{Handler: ignored}, Action{}, false},
		{Action{Handler: 0x1234, Flags: once}, Action{}, false},
	} {
		if got, ok := c.Instead(x.is); ok != x.ok || ok && got != x.want {
			t.Errorf("%+v: %+v %v, want %+v %v", x.is, got, ok, x.want, x.ok)
		}
	}
}
