package procfs

import (
	"errors"
	"os"
	"strconv"
	"testing"
)

func TestPerfMap(t *testing.T) {
	const pid = 4000000001 // of no process
	name := "/tmp/perf-" + strconv.Itoa(pid) + ".map"
	t.Cleanup(func() { os.Remove(name) })
	self := os.Getpid()
	if text, whole, err := PerfMap(self, pid, 100); len(text) > 0 || !whole || err != nil {
		t.Errorf("there is none: %q, %v, %v", text, whole, err)
	}
	lines := "1000 10 one\n2000 20 two\n"
	if err := os.WriteFile(name, []byte(lines), 0o600); err != nil {
		t.Skip(err)
	}
	if text, whole, err := PerfMap(self, pid, 100); string(text) != lines || !whole || err != nil {
		t.Errorf("%q, %v, %v", text, whole, err)
	}
	if text, whole, err := PerfMap(self, pid, 20); string(text) != "1000 10 one\n" || whole || err != nil {
		t.Errorf("cut: %q, %v, %v", text, whole, err)
	}
	other := name + ".x"
	t.Cleanup(func() { os.Remove(other) })
	if err := os.Rename(name, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, name); err != nil {
		t.Fatal(err)
	}
	if text, _, err := PerfMap(self, pid, 100); !errors.Is(err, ErrNotOwn) || len(text) > 0 {
		t.Errorf("a link: %q, %v", text, err)
	}
	os.Remove(name)
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	if text, _, err := PerfMap(self, pid, 100); !errors.Is(err, ErrNotOwn) || len(text) > 0 {
		t.Errorf("a directory: %q, %v", text, err)
	}
	if os.Geteuid() == 0 {
		os.Remove(name)
		if err := os.Rename(other, name); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(name, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if text, _, err := PerfMap(self, pid, 100); !errors.Is(err, ErrNotOwn) || len(text) > 0 {
			t.Errorf("another user's: %q, %v", text, err)
		}
	}
}
