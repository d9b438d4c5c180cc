package replay

import (
	"errors"
	"os"
	"sync"
	"time"
)

// errNoAnswer is the error of a file whose file system has gone: NFS without its
// server, FUSE without its daemon.
var errNoAnswer = errors.New("its file system does not answer")

// patience is how long files of this machine are waited for in vain, all together. A
// log says which they are; they may lie on a file system that never answers.
type patience struct {
	mu   sync.Mutex
	left time.Duration
}

var filePatience = patience{left: 5 * time.Second}

// within is what f gives, or errNoAnswer. f then goes on by itself; what it gives in
// the end is for late.
func within[T any](p *patience, f func() (T, error), late func(T)) (T, error) {
	type answer struct {
		v   T
		err error
	}
	var none T
	p.mu.Lock()
	limit := p.left
	p.mu.Unlock()
	if limit <= 0 {
		return none, errNoAnswer
	}
	ch, gone := make(chan answer), make(chan struct{})
	go func() {
		v, err := f()
		select {
		case ch <- answer{v, err}:
		case <-gone:
			late(v)
		}
	}()
	// A ticker of which a machine that stands still leaves out ticks: only time in which this
	// program could run counts.
	tick := min(patienceTick, limit)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for waited := time.Duration(0); waited < limit; waited += tick {
		select {
		case a := <-ch:
			return a.v, a.err
		case <-ticker.C:
		}
	}
	select {
	case a := <-ch: // both at once
		return a.v, a.err
	default:
	}
	close(gone)
	p.mu.Lock()
	p.left -= limit
	p.mu.Unlock()
	return none, errNoAnswer
}

// patienceTick is the piece of time by which a wait is counted.
const patienceTick = 50 * time.Millisecond

// MappedFile is a file that a program had mapped, opened for reading.
type MappedFile struct {
	f     *os.File
	name  string
	size  int64
	mtime uint64 // ns since 1970
}

// Size is how many bytes the file had when it was opened.
func (m *MappedFile) Size() int64 { return m.size }

// ReadAt is that of a file, and fails if the file system does not answer.
func (m *MappedFile) ReadAt(p []byte, off int64) (int, error) {
	own := make([]byte, len(p)) // what comes too late must not get into p
	n, err := within(&filePatience, func() (int, error) { return m.f.ReadAt(own, off) }, func(int) {})
	return copy(p, own[:n]), err
}

// Close closes the file.
func (m *MappedFile) Close() error { return m.f.Close() }
