package tenanthttp

import (
	"container/list"
	"strings"
	"time"
)

// lru is a map of bounded size. A new entry evicts another spelling of the same name for the same id, or else the least recently
// used one, so that the many spellings of a name take the space of one.
type lru struct {
	size      int
	order     *list.List // of *entry, the newest use first
	entries   map[string]*list.Element
	spellings map[spelling]string // the name that is kept
}

type spelling struct{ folded, id string }

type entry struct {
	name, id string
	expires  time.Time
}

func newLRU(size int) lru {
	return lru{size: size, order: list.New(), entries: map[string]*list.Element{}, spellings: map[spelling]string{}}
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
	e := &entry{name: name, id: id, expires: expires}
	if other, ok := l.spellings[e.spelling()]; ok {
		l.remove(other)
	}
	l.entries[name], l.spellings[e.spelling()] = l.order.PushFront(e), name
	if l.order.Len() > l.size {
		l.remove(l.order.Back().Value.(*entry).name)
	}
}

func (l *lru) remove(name string) {
	if element := l.entries[name]; element != nil {
		l.order.Remove(element)
		delete(l.entries, name)
		delete(l.spellings, element.Value.(*entry).spelling())
	}
}

func (e *entry) spelling() spelling { return spelling{strings.ToLower(e.name), e.id} }
