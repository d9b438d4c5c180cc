package export

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"memtrace/replay"
)

// csvColumns are the keys of the JSON form that have a column of their own; what
// else an event has is in the last column, as JSON.
var csvColumns = []string{"step", "time", "pid", "tid", "type", "name", "decoded", "ret", "errno", "start", "signo", "status", "signal", "child", "path"}

// csvEvents writes a row an event, with the values of its JSON form.
func csvEvents(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	out := csv.NewWriter(w)
	if err := out.Write(append(append([]string{}, csvColumns...), "more")); err != nil {
		return nil, err
	}
	rows := lines{each: func(line []byte) error {
		row, err := csvRow(line)
		if err != nil {
			return err
		}
		return out.Write(row)
	}}
	_, err := jsonl(ctx, t, &rows, o)
	out.Flush()
	if err == nil {
		err = out.Error()
	}
	return nil, err
}

func csvRow(line []byte) ([]string, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(line, &all); err != nil {
		return nil, fmt.Errorf("event as JSON: %w", err)
	}
	row := make([]string, len(csvColumns)+1)
	for i, k := range csvColumns {
		v, ok := all[k]
		if !ok {
			continue
		}
		delete(all, k)
		row[i] = string(v)
		if len(v) > 0 && v[0] == '"' {
			if err := json.Unmarshal(v, &row[i]); err != nil {
				return nil, fmt.Errorf("event as JSON: %s: %w", strconv.Quote(k), err)
			}
		}
	}
	if len(all) > 0 {
		more, err := json.Marshal(all)
		if err != nil {
			return nil, err
		}
		row[len(csvColumns)] = string(more)
	}
	return row, nil
}

// lines calls each for every line written, which comes whole.
type lines struct{ each func([]byte) error }

func (l *lines) Write(p []byte) (int, error) {
	if err := l.each(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
