package web

import (
	"context"
	"sync"
	"time"
)

// answer is one that takes long, and is kept.
type answer struct {
	mu       sync.Mutex
	waiting  int // how many want it
	cancel   context.CancelFunc
	done     chan struct{}
	progress float64
	parts    []any // what has come of it
	value    any
	err      error
}

// mostAnswers is how many are kept.
const mostAnswers = 64

// tellEvery is how often progress is told.
const tellEvery = 200 * time.Millisecond

// once makes an answer, or waits for one that is being made, or gives the one that was
// made. What nobody waits for any more is given up. progress is told how far it is.
func (l *Log) once(ctx context.Context, key string, progress func(float64), work func(context.Context, func(float64)) (any, error)) (any, error) {
	return l.piecemeal(ctx, key, progress, nil, func(ctx context.Context, progress func(float64), _ func(any)) (any, error) {
		return work(ctx, progress)
	})
}

// piecemeal is once for an answer that comes in parts: each who waits is told all of them.
func (l *Log) piecemeal(ctx context.Context, key string, progress func(float64), part func(any), work func(context.Context, func(float64), func(any)) (any, error)) (any, error) {
	l.mu.Lock()
	a := l.cache[key]
	if a == nil {
		var inner context.Context
		a = &answer{done: make(chan struct{})}
		inner, a.cancel = context.WithCancel(context.Background())
		l.cache[key] = a
		l.order = append(l.order, key)
		if len(l.order) > mostAnswers {
			delete(l.cache, l.order[0])
			l.order = l.order[1:]
		}
		go func() {
			v, err := work(inner, func(f float64) {
				a.mu.Lock()
				a.progress = f
				a.mu.Unlock()
			}, func(v any) {
				a.mu.Lock()
				a.parts = append(a.parts, v)
				a.mu.Unlock()
			})
			a.cancel()
			a.value, a.err = v, err
			if err != nil {
				l.forget(key, a)
			}
			close(a.done)
		}()
	}
	a.waiting++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		if a.waiting--; a.waiting == 0 {
			a.cancel()
			select {
			case <-a.done:
			default:
				l.drop(key, a)
			}
		}
		l.mu.Unlock()
	}()
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	told := 0
	for {
		select {
		case <-a.done:
			return a.value, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
			a.mu.Lock()
			f, parts := a.progress, a.parts[told:]
			a.mu.Unlock()
			told += len(parts)
			for _, p := range parts {
				if part != nil {
					part(p)
				}
			}
			if progress != nil {
				progress(f)
			}
		}
	}
}

// peek is an answer that is there.
func (l *Log) peek(key string) (v any, ok bool) {
	l.mu.Lock()
	a := l.cache[key]
	l.mu.Unlock()
	if a == nil {
		return nil, false
	}
	select {
	case <-a.done:
		return a.value, a.err == nil
	default:
		return nil, false
	}
}

// soon is an answer that is there, or is waited for. If it is neither, it is being made.
func (l *Log) soon(ctx context.Context, key string, wait bool, work func(context.Context, func(float64)) (any, error)) (v any, ok bool, err error) {
	if !wait {
		if v, ok := l.peek(key); ok {
			return v, true, nil
		}
		go func() { _, _ = l.once(l.life, key, nil, work) }() // where it fails, it is tried again when it is asked for again
		return nil, false, nil
	}
	v, err = l.once(ctx, key, nil, work)
	return v, err == nil, err
}

func (l *Log) forget(key string, a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(key, a)
}

// drop takes an answer out of the cache, so that the next who asks has it made anew.
func (l *Log) drop(key string, a *answer) {
	if l.cache[key] != a {
		return
	}
	delete(l.cache, key)
	for i, k := range l.order {
		if k == key {
			l.order = append(l.order[:i:i], l.order[i+1:]...)
			break
		}
	}
}
