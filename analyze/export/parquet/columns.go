package parquet

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// columns writes the rows of a table with a row for each event. It is handed over column by
// column: a table of structures (table) takes parquet-go twice as long, which looks at each
// field of each row by reflection.
//
// The goroutine that writes has a second one write half of the columns.
type columns struct {
	now   *block
	full  chan *block // to be written
	free  chan *block
	ended chan error
	begin int   // the number of the first column in now: 1 if there is none for the run, else 0
	level []int // by column: 1 if it may be NULL, else 0
	run   parquet.Value
}

// block is some rows.
type block struct {
	rows  int
	known []uint32          // by row: a bit for each column that has a value
	ints  [][]int64         // by column and row, of columns of numbers
	texts [][]parquet.Value // of the others
	bytes []byte            // that values point to
}

// newColumns begins the file of a table in dir, whose rows are as T says.
func newColumns[T any](dir, name string, o *Options) (*columns, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	c := &columns{full: make(chan *block, 2), free: make(chan *block, 3), ended: make(chan error, 1)}
	var tags []parquet.SchemaOption
	if !o.Flat {
		c.begin = 1
		c.level = []int{0}
		tags = append(tags, parquet.StructTag(`parquet:"-"`, "Run"))
	}
	schema := parquet.SchemaOf(new(T), tags...)
	isText := make([]bool, c.begin)
	for _, field := range schema.Fields() {
		level := 0
		if field.Optional() {
			level = 1
		}
		c.level, isText = append(c.level, level), append(isText, field.Type().Kind() == parquet.ByteArray)
	}
	c.run = c.fixed(0, o.Run)
	for range cap(c.free) {
		c.free <- newBlock(isText)
	}
	c.now = <-c.free
	go c.write(f, schema, o)
	return c, nil
}

// newBlock is a block with room for batchRows rows.
func newBlock(isText []bool) *block {
	b := &block{known: make([]uint32, batchRows), ints: make([][]int64, len(isText)), texts: make([][]parquet.Value, len(isText))}
	for col, text := range isText {
		if text {
			b.texts[col] = make([]parquet.Value, batchRows)
		} else {
			b.ints[col] = make([]int64, batchRows)
		}
	}
	return b
}

// write writes what comes until there is no more.
func (c *columns) write(f *os.File, schema *parquet.Schema, o *Options) {
	out := bufio.NewWriterSize(f, 1<<18)
	w := parquet.NewWriter(out, schema, parquet.Compression(compression), parquet.KeyValueMetadata(schemaKey, strconv.Itoa(Schema)), parquet.CreatedBy("memtrace", o.Recorder, ""))
	to := w.ColumnWriters()
	half := len(to) / 2
	tasks, done := make(chan *block), make(chan error)
	defer close(tasks)
	go func() {
		values := make([]parquet.Value, batchRows)
		for b := range tasks {
			done <- c.fill(to[half:], b, c.begin+half, values)
		}
	}()
	var err error
	rows := 0
	values := make([]parquet.Value, batchRows)
	for b := range c.full {
		if err == nil {
			tasks <- b
			err = c.fill(to[:half], b, c.begin, values)
			if other := <-done; err == nil {
				err = other
			}
		}
		if rows += b.rows; rows >= groupRows && err == nil {
			rows, err = 0, w.Flush()
		}
		clear(b.known)
		b.rows, b.bytes = 0, b.bytes[:0]
		c.free <- b
	}
	c.ended <- finished(f, out, w, err)
}

// fill writes columns from first on. values is room for a column.
func (c *columns) fill(to []*parquet.ColumnWriter, b *block, first int, values []parquet.Value) error {
	values = values[:b.rows]
	for i, w := range to {
		col := first + i
		level, ints, texts := c.level[col], b.ints[col], b.texts[col]
		for row := range values {
			switch {
			case b.known[row]>>col&1 == 0:
				values[row] = parquet.Value{}
			case texts != nil:
				values[row] = texts[row]
			case level == 0:
				values[row] = parquet.Int64Value(ints[row])
			default:
				values[row] = parquet.Int64Value(ints[row]).Level(0, 1, 0)
			}
		}
		if _, err := w.WriteRowValues(values); err != nil {
			return err
		}
	}
	return nil
}

// row begins a row. Columns that are not given a value are NULL.
func (c *columns) row() {
	if c.now.rows == batchRows {
		c.full <- c.now
		c.now = <-c.free
	}
	c.now.rows++
	if c.begin == 0 {
		c.add(0, c.run)
	}
}

// add gives a column a text that fixed made.
func (c *columns) add(col int, v parquet.Value) {
	b := c.now
	b.texts[col][b.rows-1] = v
	b.known[b.rows-1] |= 1 << col
}

// int gives a column a number.
func (c *columns) int(col int, n int64) {
	b := c.now
	b.ints[col][b.rows-1] = n
	b.known[b.rows-1] |= 1 << col
}

// number gives a column a number that is not known if it is 0.
func (c *columns) number(col int, n uint64) {
	if n != 0 {
		c.int(col, int64(n))
	}
}

// text gives a column a text of the log, NULL if there is none.
func (c *columns) text(col int, s []byte) {
	if len(s) == 0 {
		return
	}
	b := c.now
	at := len(b.bytes)
	if utf8.Valid(s) {
		b.bytes = append(b.bytes, s...)
	} else {
		b.bytes = append(b.bytes, text(string(s))...)
	}
	c.add(col, parquet.ByteArrayValue(b.bytes[at:len(b.bytes):len(b.bytes)]).Level(0, c.level[col], 0))
}

// fixed is a text as the value of a column, for many rows.
func (c *columns) fixed(col int, s string) parquet.Value {
	if s == "" && c.level[col] == 1 {
		return parquet.Value{}
	}
	return parquet.ByteArrayValue([]byte(text(s))).Level(0, c.level[col], 0)
}

// finish has the rest written, which done waits for.
func (c *columns) finish() {
	if c != nil {
		c.full <- c.now
		close(c.full)
	}
}

func (c *columns) done() error {
	if c == nil {
		return nil
	}
	return <-c.ended
}
