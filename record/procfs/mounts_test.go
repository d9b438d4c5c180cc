package procfs

import (
	"maps"
	"testing"

	"memtrace/format/vma"
)

func TestParseMounts(t *testing.T) {
	const text = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n" +
		"30 22 0:44 / /mnt/a\\040b rw,nosuid shared:12 master:3 - fuse.sshfs host:/ rw,user_id=0\n" +
		"31 22 0:45 / /x rw - nfs4 server:/x rw\n" +
		"a line that is none\n32 22 0:x / / rw - ext4 a rw\n33 22 0:46 / / rw -\n"
	want := map[vma.Dev]string{{Major: 254}: "ext4", {Minor: 44}: "fuse.sshfs", {Minor: 45}: "nfs4"}
	if got := ParseMounts([]byte(text)); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}
