package tenanthttp

import (
	"container/list"
	"time"
)

// lru is a map of bounded size. A new entry evicts the least recently used one.
type lru struct {
	size    int
	order   *list.List // of *entry, the newest use first
	entries map[string]*list.Element
}

type entry struct {
	name, id string
	expires  time.Time
}

func newLRU(size int) lru {
	return lru{size: size, order: list.New(), entries: map[string]*list.Element{}}
}

func (l *lru) get(name string, now time.Time) (string, bool) {
	element := l.entries[name]
	if element == nil {
		return "", false
	}
	e := element.Value.(*entry)
	if !now.Before(e.expires) {
		l.remove(name)
		return "", false
	}
	l.order.MoveToFront(element)
	return e.id, true
}

func (l *lru) put(name, id string, expires time.Time) {
	l.remove(name)
	l.entries[name] = l.order.PushFront(&entry{name: name, id: id, expires: expires})
	if l.order.Len() > l.size {
		l.remove(l.order.Back().Value.(*entry).name)
	}
}

func (l *lru) remove(name string) {
	if element := l.entries[name]; element != nil {
		l.order.Remove(element)
		delete(l.entries, name)
	}
}
