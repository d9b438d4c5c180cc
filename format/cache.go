package format

import (
	"container/list"
	"sync"
)

// lru holds what was decoded, up to a number of bytes. It is safe for
// concurrent use; what it holds is not to be changed.
type lru[T any] struct {
	mu    sync.Mutex
	limit int64
	size  int64
	order list.List // of *lruItem[T], newest first
	items map[int64]*list.Element
}

type lruItem[T any] struct {
	key  int64
	size int64
	v    T
}

func newLRU[T any](limit int64) *lru[T] {
	return &lru[T]{limit: limit, items: map[int64]*list.Element{}}
}

func (l *lru[T]) get(key int64) (v T, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.items[key]
	if e == nil {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*lruItem[T]).v, true
}

func (l *lru[T]) put(key int64, v T, size int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.items[key] != nil || size > l.limit {
		return
	}
	l.items[key] = l.order.PushFront(&lruItem[T]{key, size, v})
	for l.size += size; l.size > l.limit; {
		e := l.order.Back()
		it := e.Value.(*lruItem[T])
		l.size -= it.size
		delete(l.items, it.key)
		l.order.Remove(e)
	}
}
