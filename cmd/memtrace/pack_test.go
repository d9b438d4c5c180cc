package main

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/spf13/cobra"
)

// TestWriteWhole: a file has its name when all of it was written, else there is none.
func TestWriteWhole(t *testing.T) {
	t.Chdir(t.TempDir())
	full := errors.New("the disk is full")
	write := func(err error) error {
		return writeWhole(&cobra.Command{}, "out", func(w io.Writer) error {
			if _, serr := os.Stat("out"); serr == nil {
				t.Error("half a file has its name")
			}
			_, werr := w.Write([]byte("half"))
			return errors.Join(werr, err)
		})
	}
	names := func() int {
		list, err := os.ReadDir(".")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if err := write(full); !errors.Is(err, full) || names() != 0 {
		t.Errorf("a write that failed: %v, and left %d files", err, names())
	}
	if err := write(nil); err != nil || names() != 1 {
		t.Errorf("%v, and left %d files", err, names())
	}
	if fi, err := os.Stat("out"); err != nil || fi.Size() != 4 || fi.Mode().Perm()&0o77 != 0 {
		t.Errorf("%v %v", fi, err)
	}
	if err := os.Remove("out"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("elsewhere", "out"); err != nil {
		t.Skip(err) // not every system lets everyone
	}
	if err := write(nil); err == nil || names() != 1 {
		t.Errorf("a link was written through: %v, %d files", err, names())
	}
}
