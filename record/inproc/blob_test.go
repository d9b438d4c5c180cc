package inproc

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"memtrace/record/recordtest"
)

// TestBlobIsItsSource assembles the code, which gives the bytes that are in the tree.
func TestBlobIsItsSource(t *testing.T) {
	for _, tool := range []string{"as", "objcopy"} {
		_, err := exec.LookPath(tool)
		recordtest.Require(t, tool, err)
	}
	object, bin := filepath.Join(t.TempDir(), "blob.o"), filepath.Join(t.TempDir(), "blob.bin")
	for _, argv := range [][]string{{"as", "--64", "-o", object, "blob.gas"}, {"objcopy", "-O", "binary", "-j", ".text", object, bin}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			if argv[0] == "as" && bytes.Contains(out, []byte("64")) && bytes.Contains(out, []byte("option")) {
				t.Skip("this assembler is for another machine")
			}
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
	got, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, blob) {
		t.Errorf("blob.bin is not what blob.gas says: as --64 -o blob.o blob.gas && objcopy -O binary -j .text blob.o blob.bin")
	}
	if len(blob) != codeSize {
		t.Errorf("blob.bin has %d bytes, not %d", len(blob), codeSize)
	}
}
