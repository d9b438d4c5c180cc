package procfs

import "testing"

func TestLargeMappings(t *testing.T) {
	const text = `55d0-55d1 rw-p 00000000 00:00 0                          [heap]
Size:               4096 kB
Rss:                1500 kB
Anonymous:          1000 kB
Swap:                 24 kB
VmFlags: rd wr mr mw me ac
7f00-7f01 r--p 00000000 fe:00 77                         /lib/a: b
Rss:                9000 kB
Anonymous:             0 kB
7f02-7f03 rw-p 00000000 00:00 0
Rss:                1023 kB
Anonymous:          1023 kB
7f04-7f05 rwxp 00000000 00:00 0
Rss:                2000 kB
Anonymous:          2000 kB
`
	const want = `55d0-55d1 rw-p
Rss:                1500 kB
Anonymous:          1000 kB
Swap:                 24 kB
7f04-7f05 rwxp
Rss:                2000 kB
Anonymous:          2000 kB
`
	lines := []string{"Rss:", "Anonymous:", "Swap:"}
	if got := LargeMappings([]byte(text), 1<<20, lines); string(got) != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	if got := LargeMappings([]byte("Rss: 5 kB\n"), 0, lines); string(got) != "Rss: 5 kB\n" {
		t.Errorf("%q", got)
	}
}
