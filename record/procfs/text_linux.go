// This file reads small files of /proc and /sys again and again.

package procfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Text is a file of /proc or /sys that is read again and again.
type Text struct {
	path string
	fd   int
}

// OpenText opens a file for repeated reading.
func OpenText(path string) (*Text, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &Text{path, fd}, nil
}

// ErrLong is returned of a text that is longer than it may be.
var ErrLong = errors.New("the text is too long")

// Append appends what the file says now to b, unless that is more than limit bytes. A
// process that has ended says nothing, or is an error.
func (t *Text) Append(b []byte, limit int) ([]byte, error) {
	begin := len(b)
	for {
		if cap(b)-len(b) < 4096 {
			b = append(make([]byte, 0, 2*cap(b)+8192), b...)
		}
		n, err := unix.Pread(t.fd, b[len(b):cap(b)], int64(len(b)-begin))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return b[:begin], fmt.Errorf("read %s: %w", t.path, err)
		}
		if n == 0 {
			return b, nil
		}
		if b = b[:len(b)+n]; len(b)-begin > limit {
			return b[:begin], fmt.Errorf("read %s: %w", t.path, ErrLong)
		}
	}
}

// Close closes the file.
func (t *Text) Close() { _ = unix.Close(t.fd) }
