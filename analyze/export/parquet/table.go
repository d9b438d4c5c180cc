package parquet

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	groupRows = 256 << 10 // of a row group
	batchRows = 1024      // that are handed over at once
)

// compression is the fastest of zstd's: the next level takes twice as long and saves a
// tenth.
var compression = &zstd.Codec{Level: zstd.SpeedFastest}

// table writes the rows of one table to a file, in a goroutine of its own: a run is as fast
// as its slowest table, not as their sum. A nil table is one that is not asked for.
type table[T any] struct {
	now   *batch[T]
	full  chan *batch[T] // to be written
	free  chan *batch[T]
	ended chan error
}

// batch is rows, and the values that they point to.
type batch[T any] struct {
	rows  []T
	ints  []int64
	texts []string
}

// newTable begins the file of a table in dir.
func newTable[T any](dir, name string, o *Options) (*table[T], error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	options := []parquet.WriterOption{
		parquet.Compression(compression), parquet.MaxRowsPerRowGroup(groupRows),
		parquet.KeyValueMetadata(schemaKey, strconv.Itoa(Schema)), parquet.CreatedBy("memtrace", o.Recorder, ""),
	}
	if !o.Flat {
		options = append(options, parquet.StructTag(`parquet:"-"`, "Run"))
	}
	t := &table[T]{full: make(chan *batch[T], 2), free: make(chan *batch[T], 3), ended: make(chan error, 1)}
	for range cap(t.free) {
		t.free <- new(batch[T])
	}
	t.now = <-t.free
	go t.write(f, options)
	return t, nil
}

// write writes what comes until there is no more.
func (t *table[T]) write(f *os.File, options []parquet.WriterOption) {
	out := bufio.NewWriterSize(f, 1<<18)
	w := parquet.NewGenericWriter[T](out, options...)
	var err error
	for b := range t.full {
		if err == nil {
			_, err = w.Write(b.rows)
		}
		clear(b.rows)
		clear(b.texts)
		b.rows, b.ints, b.texts = b.rows[:0], b.ints[:0], b.texts[:0]
		t.free <- b
	}
	t.ended <- finished(f, out, w, err)
}

// finished ends a file, unless err says that it failed, and closes it.
func finished(f *os.File, out *bufio.Writer, w io.Closer, err error) error {
	for _, end := range []func() error{w.Close, out.Flush, f.Sync} {
		if err == nil {
			err = end()
		}
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// row is a new row, to be filled before the next is asked for.
func (t *table[T]) row() *T {
	if len(t.now.rows) == batchRows {
		t.full <- t.now
		t.now = <-t.free
	}
	if t.now.rows == nil {
		t.now.rows = make([]T, 0, batchRows)
	}
	t.now.rows = t.now.rows[:len(t.now.rows)+1]
	return &t.now.rows[len(t.now.rows)-1]
}

// int is a number that a row points to.
func (t *table[T]) int(n int64) *int64 {
	return keep(&t.now.ints, n)
}

// text is a text of the log that a row points to, nil for none.
func (t *table[T]) text(s string) *string {
	if s == "" {
		return nil
	}
	return keep(&t.now.texts, text(s))
}

// keep appends a value and returns where it is. It does not move those that are there.
func keep[V any](list *[]V, v V) *V {
	if len(*list) == cap(*list) { // what points into the old ones keeps them
		*list = make([]V, 0, max(64, 2*cap(*list)))
	}
	*list = append(*list, v)
	return &(*list)[len(*list)-1]
}

// number is int for what is not known if it is 0.
func (t *table[T]) number(n uint64) *int64 {
	if n == 0 {
		return nil
	}
	return t.int(int64(n))
}

// finish has the rest written, which done waits for.
func (t *table[T]) finish() {
	if t != nil {
		t.full <- t.now
		close(t.full)
	}
}

func (t *table[T]) done() error {
	if t == nil {
		return nil
	}
	return <-t.ended
}

// text is a text of a log as Parquet has to have it: each byte that is no UTF-8 becomes
// U+FFFD, as in JSON.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for _, r := range s {
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// texts are several.
func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = text(s)
	}
	return out
}
