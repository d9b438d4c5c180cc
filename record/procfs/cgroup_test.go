package procfs

import "testing"

func TestParseCgroup(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Cgroup
		ok   bool
	}{
		{"0::/user.slice/a:b\n", Cgroup{"/user.slice/a:b", true}, true},
		{"5:devices:/\n4:memory,hugetlb:/job/1\n0::/\n", Cgroup{"/job/1", false}, true},
		{"1:cpu:/\n0::/\n", Cgroup{"/", true}, true},
		{"0::/../other\n", Cgroup{}, false},
		{"1:cpu:/x", Cgroup{}, false},
		{"", Cgroup{}, false},
		{"0", Cgroup{}, false},
	} {
		if got, ok := ParseCgroup([]byte(tt.text)); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %v, %v, want %v, %v", tt.text, got, ok, tt.want, tt.ok)
		}
	}
}

func TestLines(t *testing.T) {
	text := []byte("pgfault 1\npgfree 2\noom_kill 3\npgmajfault 4")
	if got := string(Lines(text, []string{"pgfault ", "oom_", "pgmaj"})); got != "pgfault 1\noom_kill 3\npgmajfault 4" {
		t.Errorf("got %q", got)
	}
}
