package export

import (
	"context"
	"io"

	"memtrace/replay"
)

// jsonl writes events as replay --json does.
func jsonl(ctx context.Context, t *replay.Trace, w io.Writer, o Options) ([]string, error) {
	return nil, t.List(ctx, w, o.list())
}

// list are the events of a stream.
func (o *Options) list() replay.ListOptions {
	return replay.ListOptions{JSON: true, From: o.From, To: o.To, PID: o.PID, Set: o.Set, AllCalls: o.AllCalls}
}
